from __future__ import annotations

import polars as pl
import pytest

from flows.deployed import predict
from tasks.errors import InputError
from tests.helpers.tracks import tracks


def test_tracks_are_predicted_as_a_flow(prefect_server, trained, tmp_path, capsys) -> None:
    tracks({}, {"energy": ""}, {"energy": "loud"}).write_csv(tmp_path / "t.csv")
    given = str(tmp_path / "t.csv"), str(tmp_path / "o.parquet"), str(trained.root)
    out = predict(*given, model="xgboost").out
    assert pl.read_parquet(out)["n_filled"].to_list() == [0, 1]
    said = capsys.readouterr().err
    assert "2 of 3 rows predicted" in said
    assert "not predicted: 1 row with bad values. The first: line 4, energy" in said
    with pytest.raises(InputError, match="1 of 3 rows has bad values, and --strict allows none"):
        predict(*given, model="xgboost", strict=True)
