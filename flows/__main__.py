"""All commands as one program: `music-benchmark NAME`, or `python -m flows NAME`."""

from __future__ import annotations

from importlib.metadata import version
from typing import NoReturn

from cyclopts import App

from flows import (
    alerts,
    api,
    benchmark,
    cli,
    features,
    feedback,
    learning_curve,
    nearest,
    predict,
    query,
    report,
    tune,
    upkeep,
)
from flows.options import PROGRAM

TRAINING = (benchmark.COMMAND, features.COMMAND, learning_curve.COMMAND, tune.COMMAND)
PREDICTION = (predict.COMMAND, feedback.COMMAND, nearest.COMMAND, api.COMMAND)
RESULTS = (report.COMMAND, query.COMMAND, upkeep.COMMAND)
SERVER = (alerts.COMMAND,)
COMMANDS = (*TRAINING, *PREDICTION, *RESULTS, *SERVER)


def program() -> App:
    """Returns the parser of all commands."""
    app = App(
        name=PROGRAM,
        help="Predict genre and popularity of new songs from 12 audio descriptors, and compare the models that do.",
        help_format="plaintext",
        version=lambda: version("music-benchmark"),
        result_action="return_value",
    )
    groups = {"Training": TRAINING, "Prediction": PREDICTION, "Results": RESULTS, "Prefect's server": SERVER}
    for title, commands in groups.items():
        for command in commands:
            app.command(command.app(title))
    app.register_install_completion_command()
    return app


def main() -> NoReturn:
    """Runs `music-benchmark`."""
    cli.run_app(program())


if __name__ == "__main__":
    main()
