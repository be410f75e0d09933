from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.features.tables import table_of
from tasks.ingest.columns import AUDIO_COLUMNS
from tasks.prediction.candidates import candidates, lineage
from tasks.prediction.champions import current
from tasks.prediction.preparation import FittedStatistics, PlannedPreparation, _GivenTracks, prepare, read_rows
from tasks.specs import MISSING, FeatureSet
from tasks.storage import duck
from tests.helpers.amounts import amount

ODD = ["loud", "1_000", "1e300", "nan", "inf", "-0", " 0.5 ", "0x10", "C# minor", "Db", "H", "Major", "true", "-1", "0"]
VALUES = st.one_of(
    st.none(),
    st.sampled_from([*MISSING, *ODD]),
    st.floats(0, 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-2, 400_000),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
)
COMPLETE: dict[str, object] = dict.fromkeys(AUDIO_COLUMNS, 0.5) | {
    "instance_id": 7, "key": "C#", "mode": "Minor", "loudness": -6.2, "tempo": 96, "duration_ms": 200_000
}  # fmt: skip
ALTERED = st.dictionaries(st.sampled_from(["instance_id", *AUDIO_COLUMNS]), VALUES)
ROWS = st.lists(st.one_of(ALTERED, ALTERED.map(lambda values: COMPLETE | values)), min_size=1, max_size=8)
OWN = FeatureSet(name="own", columns={"a": "energy * valence", "b": "1 / (clean_mode_code - 1)"})


@pytest.fixture(scope="module", params=["all", "pca", "own expressions", "a feature without values"])
def fitted(request, trained) -> FittedStatistics:
    """The fitted statistics of a champion, in each form that preparation knows."""
    familiarity = current(trained)[0].calibration.familiarity
    wanted = "pca" if request.param == "pca" else "all"
    one = next(one for one in candidates(trained) if one.cell.feature_set == wanted)
    found = FittedStatistics.of(lineage(one.feature_version, trained), familiarity, trained)
    if request.param == "own expressions":
        return replace(found, own_table=table_of(OWN))
    if request.param == "a feature without values":
        known = found.tables["features.fill_values"]
        without = known.filter([name != "tempo" for name in known["feature_name"].to_pylist()])
        return replace(found, tables=found.tables | {"features.fill_values": without})
    return found


@pytest.mark.slow
def test_a_planned_preparation_gives_what_the_same_sql_gives_step_by_step(fitted, trained) -> None:
    """Its one plan is used for all examples: each must get its own rows."""
    planned = PlannedPreparation(fitted)
    with duck.workspace(trained.scratch) as connection:

        @settings(
            max_examples=amount(12, 60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
        )
        @given(ROWS)
        @example([COMPLETE, COMPLETE | {"energy": 0.1}])
        @example([COMPLETE, COMPLETE | {"key": "H"}, COMPLETE | {"instance_id": "seven"}, {}])
        @example([COMPLETE | {"key": "C# minor", "mode": None, "tempo": "fast"}, COMPLETE | {"tempo": None}])
        def same(rows: list[dict[str, object]]) -> None:
            read_rows(connection, rows)
            found = planned.prepare(rows)
            assert found.equals(prepare(connection, fitted, 1, len(rows)))
            rejects = "select row_number, column_name, error from raw.rejects order by all"
            assert planned.rejects() == connection.execute(rejects).fetchall()

        same()


def test_duckdb_keeps_the_plan(trained, monkeypatch) -> None:
    """To plan the statement it would look at the given tracks once more: right, but ten times as slow."""
    champion = current(trained)[0]
    tables = lineage(champion.candidate.feature_version, trained)
    planned = PlannedPreparation(FittedStatistics.of(tables, champion.calibration.familiarity, trained))
    looks = []
    export = _GivenTracks.__arrow_c_stream__

    def counted(given: _GivenTracks, requested_schema: object = None) -> object:
        looks.append(given.table.num_rows)
        return export(given, requested_schema)

    monkeypatch.setattr(_GivenTracks, "__arrow_c_stream__", counted)
    for n in (1, 3, 2):
        assert planned.prepare([COMPLETE] * n).num_rows == n
    assert looks == [1, 3, 2]
    assert planned.prepare([COMPLETE, {"energy": 0.5}]).num_rows == 2
    assert looks == [1, 3, 2, 2, 1]  # rejects are looked for where no mode is given, but not in the other row
    assert planned.prepare([COMPLETE | {"tempo": None}]).num_rows == 1
    assert looks == [1, 3, 2, 2, 1, 1]
