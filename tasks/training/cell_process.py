"""What the process of a cell does: it loads the plug-ins that the cell needs, and trains it."""

from __future__ import annotations

from tasks.models.files import read_back
from tasks.models.registry import spec_of
from tasks.plugins import load_plugins
from tasks.training.jobs import Job
from tasks.training.train import train_cell


def train_job(job: Job) -> None:
    """Trains a cell as `train_cell` does. A model whose stored file could not be loaded again is not stored.

    Raises: PluginError: a plug-in cannot be loaded. ModelFileError: the model's file cannot be read. Any error of the
        model.
    """
    load_plugins(job.plugins)
    with read_back(spec_of(job.cell)):
        train_cell(job)
