"""The k-nearest-neighbours model."""

from __future__ import annotations

from typing import Any

from tasks.models.spec import ModelSpec, Parameters


def knn(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns scikit-learn's KNeighborsClassifier."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(**parameters, n_jobs=n_jobs)


MODELS = (
    ModelSpec(
        model="knn",
        task="genre",
        build=knn,
        needs_memory="it keeps all training rows and searches them for each new one",
        parameters={"n_neighbors": 5},
        trusted_types=("sklearn.metrics._dist_metrics.EuclideanDistance64", "sklearn.neighbors._kd_tree.KDTree"),
        is_stochastic=False,
        cost=2,
    ),
)
