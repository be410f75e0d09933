"""Neural nets that learn both tasks: the study's and a better one, and each with a single head for comparison."""

from __future__ import annotations

from typing import Any

from tasks.models.spec import TARGETS, BySplit, ModelSpec, Parameters, Range

LIBRARIES = ("numpy", "tensorflow", "keras")
STUDY_NET = {
    "shared_units": (256, 128),
    "head_units": 64,
    "shared_dropout": 0.3,
    "head_dropout": 0.2,
    "learning_rate": 3e-4,
    "popularity_weight": 5.0,
    "batch_size": 128,
    "epochs": 100,
    "stop_patience": 15,
    "plateau_patience": 8,
    "plateau_factor": 0.5,
}
STUDY_NET_QUICK = {"epochs": 5}
ENCODED_NET = {
    "members": 8,
    "bins": 16,
    "width": 256,
    "depth": 2,
    "head_units": 96,
    "dropout": 0.15,
    "learning_rate": 2.7e-3,
    "weight_decay": 3.5e-3,
    "momentum": 0.998,
    "popularity_weight": 0.3,
    "batch_size": 256,
    "epochs": 10,
    "stop_patience": 4,
}
ENCODED_NET_QUICK = {"members": 2, "width": 64, "epochs": 4}
SPACE = {
    "bins": Range(low=8, high=24),
    "width": Range(low=128, high=384, step=64),
    "depth": Range(low=2, high=4),
    "dropout": Range(low=0.05, high=0.4),
    "learning_rate": Range(low=1e-3, high=4e-3, log=True),
    "weight_decay": Range(low=3e-3, high=0.1, log=True),
    "head_units": Range(low=32, high=256, step=32),
    "popularity_weight": Range(low=0.1, high=3.0, log=True),
}


def study_net(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns the study's net, in Keras."""
    from tasks.models.estimators.nets import MultitaskNet

    return MultitaskNet(**parameters, seed=seed, threads=n_jobs)


def encoded_net(parameters: Parameters, seed: int, n_jobs: int) -> Any:
    """Returns Keras nets with shared layers, averaged, whose features are encoded piecewise linearly."""
    from tasks.models.estimators.nets import EncodedNet

    return EncodedNet(**parameters, seed=seed, threads=n_jobs)


def fit_out_of_core(estimator: Any, x: BySplit, *targets: BySplit) -> None:
    """Fits a net out of core: the nets themselves read stored rows one chunk at a time."""
    estimator.fit(x, *targets)


MODELS = (
    ModelSpec(
        model="multitask",
        task="multitask",
        build=study_net,
        fit_out_of_core=fit_out_of_core,
        parameters=STUDY_NET,
        quick=STUDY_NET_QUICK,
        feature_sets=("all",),
        libraries=LIBRARIES,
        watches_validation=True,
        cost=43,
    ),
    ModelSpec(
        model="multitask_tuned",
        task="multitask",
        build=encoded_net,
        fit_out_of_core=fit_out_of_core,
        parameters=ENCODED_NET,
        quick=ENCODED_NET_QUICK,
        space=SPACE,
        feature_sets=("all",),
        group="better",
        libraries=LIBRARIES,
        watches_validation=True,
        cost=60,
    ),
    *(
        ModelSpec(
            model="single_head_net",
            task=task,
            build=study_net,
            fit_out_of_core=fit_out_of_core,
            parameters=STUDY_NET | {"heads": (task,)},
            quick=STUDY_NET_QUICK,
            feature_sets=("all",),
            group="single_head",
            libraries=LIBRARIES,
            watches_validation=True,
            cost=40,
        )
        for task in TARGETS
    ),
    *(
        ModelSpec(
            model="single_head_tuned",
            task=task,
            build=encoded_net,
            fit_out_of_core=fit_out_of_core,
            parameters=ENCODED_NET | {"heads": (task,)},
            quick=ENCODED_NET_QUICK,
            feature_sets=("all",),
            group="single_head",
            libraries=LIBRARIES,
            watches_validation=True,
            cost=55,
        )
        for task in TARGETS
    ),
)
