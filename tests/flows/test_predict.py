from __future__ import annotations

import polars as pl

from flows.predict import predict
from tests.helpers.tracks import tracks


def test_tracks_are_predicted_as_a_flow(prefect_server, trained, tmp_path, capsys) -> None:
    tracks({}, {"energy": ""}).write_csv(tmp_path / "t.csv")
    out = predict(str(tmp_path / "t.csv"), str(tmp_path / "o.parquet"), str(trained.root), model="xgboost")
    assert pl.read_parquet(out)["n_filled"].to_list() == [0, 1]
    assert "2 of 2 rows predicted" in capsys.readouterr().err
