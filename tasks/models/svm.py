"""The study's support vector machine, with kernels computed by BLAS."""

from __future__ import annotations

from typing import Any

from tasks.models.spec import ModelSpec, Parameters


def svm(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns the project's VectorizedSVC, which equals scikit-learn's SVC up to rounding."""
    from tasks.models.estimators.vectorized_svc import VectorizedSVC

    return VectorizedSVC(**parameters)


MODELS = (
    ModelSpec(
        model="svm",
        task="genre",
        build=svm,
        needs_memory="its kernel compares every training row with every other",
        parameters={"C": 1.0},  # with an RBF kernel and gamma "scale"
        trusted_types=("tasks.models.estimators.vectorized_svc.VectorizedSVC",),
        is_stochastic=False,
        cost=17,
    ),
)
