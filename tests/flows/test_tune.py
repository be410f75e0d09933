from __future__ import annotations

import pytest

from flows import deployed, tune
from tasks.storage.warehouse import Warehouse


@pytest.mark.long
def test_a_tuning_run_resumes(prefect_server, tmp_path, capsys) -> None:
    options = {
        "task": "popularity", "model": "xgboost_tuned", "source": "sample:1000", "warehouse": str(tmp_path),
        "threads": 1,
    }  # fmt: skip
    first = deployed.tune(trials=2, **options)
    best = deployed.tune(trials=4, **options)
    assert (first.n_finished, best.n_finished) == (2, 4)
    assert best.committed == first.committed
    assert best.value <= first.value <= first.committed
    assert len(Warehouse.at(tmp_path).files("tuning", "trials")) == 4
    tune.print_best(best)
    assert f"best of 4 trials: validation rmse {best.value:.4f}" in capsys.readouterr().out
