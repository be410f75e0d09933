from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from benchmarks import study
from tasks.errors import InputError
from tasks.features.build import build_features
from tasks.features.registry import BuiltTable
from tasks.features.tables import TABLES
from tasks.ingest.read import ingest
from tasks.specs import AUDIO_FEATURES
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tests.helpers.amounts import amount, mostly_long
from tests.helpers.tracks import many, tracks


def build(frame: pl.DataFrame, warehouse: Warehouse, min_genre_rows: int = 20) -> dict[str, pl.DataFrame]:
    path = warehouse.root / "source.csv"
    frame.write_csv(path)
    return read(
        build_features(ingest(str(path), {}, 1.0, warehouse), "published", min_genre_rows, warehouse), warehouse
    )


def read(built: list[BuiltTable], warehouse: Warehouse) -> dict[str, pl.DataFrame]:
    return {row.table_name.split(".")[1]: pl.read_parquet(warehouse.root / row.path) for row in built}


def test_every_table_is_built_once(sample_tables, sample_snapshot, shared_warehouse) -> None:
    again = build_features(sample_snapshot, "published", 20, shared_warehouse)
    assert [row.table_name for row in again] == [table.name for table in TABLES if not table.is_on_demand]
    assert all(row.reused for row in again)
    assert [row.version for row in again] == [row.version for row in sample_tables]


@pytest.mark.slow
def test_a_lost_file_is_built_again(warehouse) -> None:
    tables = build(many(100), warehouse)
    snapshot = ingest(str(warehouse.root / "source.csv"), {}, 1.0, warehouse)
    lost = next(row for row in build_features(snapshot, "published", 20, warehouse) if row.table_name.endswith("clean"))
    (warehouse.root / lost.path).unlink()
    again = build_features(snapshot, "published", 20, warehouse)
    assert [row.table_name for row in again if not row.reused] == ["features.tracks_clean"]
    assert read(again, warehouse)["tracks_clean"].equals(tables["tracks_clean"])


def test_a_version_depends_on_its_sql_and_on_what_is_upstream(sample_snapshot, shared_warehouse, monkeypatch) -> None:
    before = {row.table_name: row.version for row in build_features(sample_snapshot, "published", 20, shared_warehouse)}
    original = duck.source
    changed = "features/scaling"
    monkeypatch.setattr(duck, "source", lambda name: original(name) + ("\n/* changed */" if name == changed else ""))
    after = {row.table_name: row.version for row in build_features(sample_snapshot, "published", 20, shared_warehouse)}
    differing = {name.split(".")[1] for name in before if before[name] != after[name]}
    assert differing == {"scaling", "tracks_std", "pca_loadings", "tracks_pca", "tracks_multitask"}


def test_missing_values_are_filled_with_the_mean_of_the_genre(warehouse) -> None:
    frame = many(100).with_columns(tempo=pl.lit("100"), duration_ms=pl.lit("1000"))
    rap = pl.col("music_genre") == "Rap"
    row = pl.int_range(pl.len())
    frame = frame.with_columns(
        tempo=pl.when(row == 1).then(pl.lit("?")).when(row == 3).then(pl.lit("150.0005")).otherwise("tempo"),
        duration_ms=pl.when(row == 0).then(pl.lit("-1")).when(rap).then(pl.lit("2000")).otherwise("duration_ms"),
    )
    assert frame["music_genre"][:4].to_list() == ["Jazz", "Rap", "Jazz", "Rap"]
    clean = build(frame, warehouse)["tracks_clean"].sort("row_number")
    assert clean["tempo"][1] == round((48 * 100 + 150.0005) / 49, 3)
    assert clean["duration_ms"][0] == 1000
    assert clean["is_imputed"].to_list() == [True, True] + [False] * 98


def test_an_unknown_key_is_filled_with_the_most_frequent_of_the_genre(warehouse) -> None:
    frame = many(100).with_columns(key=pl.when(pl.col("music_genre") == "Rap").then(pl.lit("B")).otherwise(pl.lit("D")))
    frame = frame.with_columns(key=pl.when(pl.int_range(pl.len()) < 2).then(pl.lit("-1")).otherwise("key"))
    clean = build(frame, warehouse)["tracks_clean"].sort("row_number")
    assert clean["key_code"][:2].to_list() == [2.0, 11.0]
    assert clean["is_imputed"].sum() >= 2


def test_a_genre_without_any_tempo_takes_that_of_all(warehouse) -> None:
    frame = many(100).with_columns(
        tempo=pl.when(pl.col("music_genre") == "Rap").then(pl.lit("?")).otherwise(pl.lit("90"))
    )
    assert build(frame, warehouse)["tracks_clean"]["tempo"].unique().to_list() == [90.0]


def test_rare_genres_are_dropped(warehouse) -> None:
    frame = many(99, ("Jazz", "Rap", "Polka")).with_columns(
        music_genre=pl.when((pl.col("music_genre") == "Polka") & (pl.int_range(pl.len()) > 40))
        .then(pl.lit("Rap")).otherwise("music_genre")
    )  # fmt: skip
    tables = build(frame, warehouse, 20)
    assert tables["genre_mapping"]["music_genre"].to_list() == ["Jazz", "Rap"]
    assert tables["rare_genres"].rows() == [("Polka", 13)]
    assert build(frame, warehouse, 10)["genre_mapping"]["music_genre"].to_list() == ["Jazz", "Polka", "Rap"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (many(100, ("Rap",)), "2 are needed"),
        (tracks({}, {}), "2 are needed"),
        (tracks({"music_genre": ""}, {"music_genre": ""}), "2 usable rows .* cannot be split"),
    ],
)
def test_too_little_to_learn_from_is_refused(frame, message, warehouse) -> None:
    with pytest.raises(InputError, match=message):
        build(frame, warehouse)


def test_genres_that_cannot_be_split_are_refused(warehouse) -> None:
    with pytest.raises(InputError, match="cannot be split 70/15/15 by genre"):
        build(many(6), warehouse, 1)


def test_genre_names_that_clash_as_columns(warehouse) -> None:
    names = ("Rap", "id", 'x" or 1; --', "it's")
    tables = build(many(200, names), warehouse)
    columns = dict(tables["genre_mapping"].select("music_genre", "column_name").iter_rows())
    assert columns == {
        "Rap": "genre_Rap_0", "id": "genre_id_1", "it's": "genre_it's_2", 'x" or 1; --': 'genre_x" or 1; --_3',
    }  # fmt: skip
    for table in ("tracks_one_hot", "tracks_multitask"):
        one_hot = tables[table].select(columns.values())
        assert (one_hot.sum_horizontal() == 1).all()


def test_a_genre_may_look_like_a_parameter(warehouse) -> None:
    assert "genre_$protocol" in build(many(100, ("$protocol", "Rap")), warehouse)["tracks_one_hot"].columns


def test_one_hot_follows_the_mapping(sample_tables, shared_warehouse) -> None:
    tables = read(sample_tables, shared_warehouse)
    joined = tables["tracks_one_hot"].join(tables["tracks_clean"].select("track_id", "music_genre"), on="track_id")
    for genre, column in tables["genre_mapping"].select("music_genre", "column_name").iter_rows():
        assert (joined[column] == (joined["music_genre"] == genre)).all()


def test_z_scores_are_scikit_learns(sample_tables, shared_warehouse) -> None:
    tables = read(sample_tables, shared_warehouse)
    clean = tables["tracks_clean"].join(tables["split_assignment"].drop("protocol"), on="track_id")
    clean = clean.sort("split", "position")
    columns = list(AUDIO_FEATURES)
    scaler = StandardScaler().fit(clean.filter(split="train").select(columns).to_numpy())
    expected = scaler.transform(clean.select(columns).to_numpy())
    std = tables["tracks_std"].sort("split", "position")
    np.testing.assert_allclose(std.select(columns).to_numpy(), expected, atol=1e-9)


def test_components_are_scikit_learns_and_hold_no_target(sample_tables, shared_warehouse) -> None:
    tables = read(sample_tables, shared_warehouse)
    std = tables["tracks_std"]
    pca = PCA(n_components=0.95).fit(std.filter(split="train").select(AUDIO_FEATURES).to_numpy())
    expected = pca.transform(std.sort("track_id").select(AUDIO_FEATURES).to_numpy())
    names = [name for name in tables["tracks_pca"].columns if name.startswith("pc")]
    assert names == [f"pc{i + 1}" for i in range(expected.shape[1])]
    np.testing.assert_allclose(
        np.abs(tables["tracks_pca"].sort("track_id").select(names).to_numpy()), np.abs(expected), atol=1e-7
    )
    learnt = tables["pca_loadings"].filter(statistic="explained_variance_ratio")["value"].to_numpy()
    np.testing.assert_allclose(learnt, pca.explained_variance_ratio_, atol=1e-8)


def test_a_constant_feature_is_only_centred(warehouse) -> None:
    std = build(many(100).with_columns(mode=pl.lit("Major")), warehouse)["tracks_std"]
    assert std["mode_code"].unique().to_list() == [0.0]


@pytest.fixture(scope="module")
def studied(real_file):
    return study.prepare(real_file)


@pytest.mark.slow
def test_the_real_file_is_split_and_standardized_as_in_the_study(real_file, studied, warehouse) -> None:
    tables = read(build_features(ingest(str(real_file), {}, 0.0, warehouse), "published", 20, warehouse), warehouse)
    for split, expected in studied.items():
        ours = tables["tracks_std"].filter(split=split).sort("position")
        assert ours["track_id"].to_list() == expected["instance_id"].astype(int).tolist()
        assert ours["music_genre"].to_list() == expected["music_genre"].tolist()
        np.testing.assert_allclose(ours.select(study.AUDIO).to_numpy(), expected[study.AUDIO].to_numpy(), atol=1e-9)
        multitask = tables["tracks_multitask"].filter(split=split).sort("position")
        genres = [name for name in expected.columns if name.startswith("genre_")]
        np.testing.assert_array_equal(multitask.select(genres).to_numpy(), expected[genres].to_numpy())
    assert tables["tracks_clean"]["is_imputed"].mean() == pytest.approx(0.189, abs=0.001)


def test_the_registry_names_files_that_are_there(sample_tables, shared_warehouse) -> None:
    for row in sample_tables:
        assert pq.read_metadata(shared_warehouse.root / row.path).num_rows == row.rows


@pytest.mark.slow
@pytest.mark.parametrize("protocol", mostly_long(["published", "cold_start"], "cold_start"))
def test_two_builds_of_the_same_file_are_equal_to_the_last_bit(protocol, tmp_path, monkeypatch) -> None:
    def built(home: Warehouse) -> dict[str, pl.DataFrame]:
        snapshot = ingest(f"sample:{amount(40_000, 60_000)}", {}, 0.0, home)
        raw = pl.read_parquet(home.table("raw", "tracks", snapshot.snapshot))
        return {"raw": raw} | read(build_features(snapshot, protocol, 20, home), home)

    few = built(Warehouse.at(tmp_path / "few"))
    monkeypatch.setattr(duck, "MANY_ROWS", 0)
    many_rows = built(Warehouse.at(tmp_path / "many"))
    assert many_rows.pop("raw").equals(few.pop("raw"))
    for name, table in few.items():  # of many, rows stand in any order
        order = [column for column in ("track_id", "feature_name", "statistic", "genre") if column in table.columns]
        assert many_rows[name].sort(order).equals(table.sort(order)), name


@pytest.mark.slow
@pytest.mark.parametrize(("column", "text"), [("popularity", "high"), ("music_genre", "")])
def test_the_staged_table_is_the_typed_one_unless_a_row_is_dropped(column, text, warehouse) -> None:
    def staged(frame: pl.DataFrame) -> tuple[bool, pl.DataFrame]:
        frame.write_csv(warehouse.root / "source.csv")
        snapshot = ingest(str(warehouse.root / "source.csv"), {}, 1.0, warehouse)
        built = build_features(snapshot, "published", 20, warehouse)
        [path] = [warehouse.root / row.path for row in built if row.table_name == "staging.stg_tracks"]
        return path.samefile(warehouse.table("staging", "typed_tracks", snapshot.snapshot)), pl.read_parquet(path)

    is_typed, whole = staged(many(100))
    assert is_typed
    dropped = pl.when(pl.int_range(pl.len()) == 7).then(pl.lit(text)).otherwise(column).alias(column)
    is_typed, rest = staged(many(100).with_columns(dropped))
    assert not is_typed
    assert rest.equals(whole.filter(pl.col("row_number") != 8))
