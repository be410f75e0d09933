"""The folds of a cross-validation: whose tracks they are, and what each fold learns from its training rows alone."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tasks.errors import CheckError, InputError, UserError
from tasks.features import folds
from tasks.features.build import build_features
from tasks.features.registry import BuiltTable
from tasks.ingest.read import ingest
from tasks.ingest.snapshots import Snapshot
from tasks.specs import FEATURE_SETS, STUDY_SEED, FeatureSet, Folds
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tests.helpers.commands import refusal

FOLDS = 3
SEEDS = (STUDY_SEED, 2)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Warehouse:
    return Warehouse.at(tmp_path_factory.mktemp("folds"))


@pytest.fixture(scope="module")
def snapshot(home) -> Snapshot:
    return ingest("sample:2000", {}, 0.05, home)


@pytest.fixture(scope="module")
def by_seed(snapshot, home) -> dict[int, dict[str, dict[str, BuiltTable]]]:
    names = ("label_free", "cold_start")
    return {seed: {name: tables(snapshot, name, home, seed=seed) for name in names} for seed in SEEDS}


@pytest.fixture(scope="module")
def built(by_seed) -> dict[str, dict[str, BuiltTable]]:
    return by_seed[STUDY_SEED]


def tables(
    snapshot: Snapshot, protocol: str, home: Warehouse, n: int = FOLDS, seed: int = STUDY_SEED
) -> dict[str, BuiltTable]:
    return {table.table_name: table for table in build_features(snapshot, protocol, 20, home, folds=Folds(n, seed))}


def read(built: dict[str, BuiltTable], name: str, home: Warehouse) -> pl.DataFrame:
    return pl.read_parquet(home.root / built[name].path)


def fold(table: str, protocol: str, number: int, built: dict[str, BuiltTable], home: Warehouse) -> pl.DataFrame:
    files = {name: home.root / built[name].path for name in folds.STORED}
    with duck.workspace(spill=home.scratch) as connection:
        folds.rows_of(table, protocol, number, files, connection)
        return pl.DataFrame(connection.sql(f"from {table} order by track_id").to_arrow_table())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("protocol", ["label_free", "cold_start"])
def test_each_track_is_tested_once_and_validates_at_most_once(protocol, seed, by_seed, home) -> None:
    built = by_seed[seed]
    splits = pl.concat(fold(folds.SPLIT, protocol, at, built[protocol], home) for at in range(1, FOLDS + 1))
    tracks = read(built[protocol], "staging.stg_tracks", home)["track_id"]
    assert sorted(splits.filter(split="test")["track_id"]) == sorted(tracks)
    assert splits.filter(split="val")["track_id"].is_unique().all()
    assert splits.group_by("track_id").len()["len"].unique().to_list() == [FOLDS]
    by_split = splits.group_by("split").agg(pl.len(), (pl.col("position").n_unique()).alias("places"))
    shares = dict(zip(by_split["split"], by_split["len"] / len(splits), strict=True))
    assert shares == pytest.approx({"test": 1 / 3, "val": 1 / 6, "train": 1 / 2}, abs=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_artists_and_recordings_are_whole_in_folds_that_keep_them_apart(seed, by_seed, home) -> None:
    built = by_seed[seed]
    artists = read(built["cold_start"], "features.track_artists", home)
    recordings = read(built["cold_start"], "features.track_groups", home)
    parts = read(built["cold_start"], folds.ASSIGNMENT, home)
    for links, key in ((artists, "artist_id"), (recordings, "recording_id"), (recordings, "group_id")):
        several = links.join(parts, on="track_id").group_by(key).agg(pl.col("part").n_unique(), pl.len())
        assert several.filter(pl.col("len") > 1).height > 10
        assert several["part"].max() == 1
    stratified = read(built["label_free"], folds.ASSIGNMENT, home)
    split_up = artists.join(stratified, on="track_id").group_by("artist_id").agg(pl.col("part").n_unique())
    assert split_up["part"].max() > 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("protocol", "most"), [("label_free", 1), ("cold_start", 12)])
def test_genres_are_spread_evenly(protocol, most, seed, by_seed, home) -> None:
    built = by_seed[seed]
    tracks = read(built[protocol], "staging.stg_tracks", home).select("track_id", "music_genre")
    counts = (
        read(built[protocol], folds.ASSIGNMENT, home)
        .join(tracks, on="track_id")
        .group_by("music_genre", "part")
        .len()
        .group_by("music_genre")
        .agg((pl.col("len").max() - pl.col("len").min()).alias("spread"))
    )
    assert counts["spread"].max() <= most


@pytest.mark.parametrize("protocol", ["label_free", "cold_start"])
def test_another_seed_divides_the_tracks_otherwise(protocol, by_seed, home) -> None:
    """Of pairs of tracks of different groups that were in one fold, about one in FOLDS is in one again."""
    study, other = (read(by_seed[seed][protocol], folds.ASSIGNMENT, home) for seed in SEEDS)
    tracks = study.join(other, on="track_id")
    assert len(tracks) == len(study) == len(other)
    assert (tracks["group_id"] == tracks["group_id_right"]).all()
    assert (tracks["position"] != tracks["position_right"]).mean() > 0.9
    first = tracks.group_by("group_id").first().select(pl.col("part") // 2, pl.col("part_right") // 2)
    pairs = first.group_by("part", "part_right").len().select((pl.col("len") ** 2).sum()).item()
    before = first.group_by("part").len().select((pl.col("len") ** 2).sum()).item()
    assert pairs / before == pytest.approx(1 / FOLDS, abs=0.04)
    assert other["fold_seed"].unique().to_list() == [2]


def test_tables_and_versions_of_the_studys_seed_are_those_of_before_there_were_others(by_seed, built, home) -> None:
    for protocol, of_study in built.items():
        rules = [inspect.getsource(code) for code in (folds.fold_parts, folds._stratified_parts, folds._assignment)]
        version = of_study[folds.SPLIT].version
        expected = duck.digest(folds.ASSIGNMENT, FOLDS, version, rules, duck.code("features/fold_split"))
        assert of_study[folds.ASSIGNMENT].version == expected
        assert not {"fold_seed"} & {*read(of_study, folds.ASSIGNMENT, home).columns}
        assert not {"fold_seed"} & {*read(of_study, folds.STATISTICS, home).columns}
        differ = {name for name, table in by_seed[2][protocol].items() if table.version != of_study[name].version}
        assert differ == {folds.ASSIGNMENT, folds.STATISTICS}


@pytest.mark.parametrize("number", [1, FOLDS])
def test_a_fold_learns_from_its_training_rows_alone(number, built, home) -> None:
    raw = read(built["label_free"], "staging.stg_tracks", home).sort("track_id")
    made = fold("features.tracks_std", "label_free", number, built["label_free"], home)
    is_train = (made["split"] == "train").to_numpy()
    tempo = raw["tempo"].to_numpy()
    filled = np.where(np.isnan(tempo), np.round(np.nanmean(tempo[is_train]), 3), tempo)
    assert np.isnan(tempo).sum() > 100
    scaled = (filled - filled[is_train].mean()) / filled[is_train].std()
    assert made["tempo"].to_numpy() == pytest.approx(scaled, abs=1e-9)
    other = fold("features.tracks_std", "label_free", 2, built["label_free"], home)
    assert not np.allclose(other["tempo"].to_numpy(), scaled, atol=1e-9)


def test_components_of_a_fold_are_those_of_its_training_rows(built, home) -> None:
    made = fold("features.tracks_pca", "cold_start", 1, built["cold_start"], home).filter(split="train")
    components = made.select(r"^pc\d+$").to_numpy()
    covariance = np.cov(components.T)
    assert covariance == pytest.approx(np.diag(np.diag(covariance)), abs=1e-6)


def test_folds_take_little_more_room_than_none(built, home) -> None:
    size = {name: (home.root / table.path).stat().st_size for name, table in built["cold_start"].items()}
    assert size[folds.ASSIGNMENT] + size[folds.STATISTICS] < 0.1 * sum(size.values())


def test_what_is_stored_is_not_made_again(snapshot, built, home) -> None:
    again = tables(snapshot, "cold_start", home)
    assert again[folds.ASSIGNMENT].reused
    assert again[folds.STATISTICS].reused
    more = tables(snapshot, "cold_start", home, FOLDS + 1)
    assert {name for name, table in more.items() if not table.reused} == {folds.ASSIGNMENT, folds.STATISTICS}


def test_a_protocol_that_is_not_honest_has_no_folds(snapshot, home) -> None:
    assert not {folds.ASSIGNMENT, folds.STATISTICS} & tables(snapshot, "published", home).keys()
    assert not {folds.ASSIGNMENT, folds.STATISTICS} & tables(snapshot, "artists_any", home).keys()


def test_what_has_no_folds_is_refused(snapshot, home) -> None:
    assert "--fold-seed needs --folds, the number of folds" in refusal("--protocol", "cold_start", "--fold-seed", "7")
    with pytest.raises(UserError, match="append with --statistics relearned, or leave out --folds"):
        folds.build_folds(replace(snapshot, statistics="kept"), None, Folds(3), {}, [], home)
    few = ingest("sample:400", {}, 0.05, home)
    with pytest.raises(InputError, match=r"50 folds need at least 100 rows of each genre; one has \d+\. Ask for fewer"):
        tables(few, "label_free", home, 50)


def test_a_genre_without_a_training_track_in_a_fold_is_named(tmp_path) -> None:
    """Its artist's tracks are all in one part, so that the fold that tests them has none to train on."""
    home = Warehouse.at(tmp_path)
    build_features(ingest("sample:2000", {}, 0.05, home), "published", 20, home)
    [sample] = (home.root / "sample").glob("*.csv")
    frame = pl.read_csv(sample, infer_schema=False).head(600)
    one_artist = pl.when(pl.col("music_genre") == "Jazz").then(pl.lit("One")).otherwise("artist_name")
    frame.with_columns(artist_name=one_artist).write_csv(tmp_path / "t.csv")
    snapshot = ingest(str(tmp_path / "t.csv"), {}, 0.5, home)
    build_features(snapshot, "cold_start", 5, home)
    with pytest.raises(
        InputError, match=r"3 folds are not possible under cold_start: in fold \d no .* of genre 'Jazz'"
    ):
        build_features(snapshot, "cold_start", 5, home, folds=Folds(3))


def test_too_few_groups_are_refused_with_their_number(snapshot, tmp_path) -> None:
    home = Warehouse.at(tmp_path)
    few = ingest("sample:400", {}, 0.05, home)
    with pytest.raises(InputError, match=r"are in \d+ group\(s\) .*, and at least \d+ are needed\. Ask for fewer"):
        tables(few, "cold_start", home, 50)


def test_an_expression_that_is_not_finite_in_a_fold_is_named(built, home, monkeypatch) -> None:
    expression = "case when loudness < 1.2 then 1 end"  # of z-scores, which differ by fold
    monkeypatch.setitem(FEATURE_SETS._specs, "odd", FeatureSet(name="odd", columns={"odd": expression}))
    with pytest.raises(CheckError, match=r"features\.set_odd of protocol label_free .*column \"odd\".*no finite value"):
        fold("features.set_odd", "label_free", 1, built["label_free"], home)


def test_a_rule_that_a_fold_breaks_is_found(snapshot, tmp_path, monkeypatch) -> None:
    """Statistics of a fold that learn from other rows than its training rows are refused, as those of one split are."""
    learn = duck.render

    def leaky(name: str, **columns: object) -> str:
        text = learn(name, **columns)
        return text.replace("where split = 'train'", "") if name == "features/scaling" else text

    home = Warehouse.at(tmp_path)
    again = ingest("sample:2000", {}, 0.05, home)
    build_features(again, "label_free", 20, home)
    monkeypatch.setattr(duck, "render", leaky)
    with pytest.raises(CheckError, match=r"break the rule of sql/checks/learnt_from_training_rows\.sql"):
        build_features(again, "label_free", 20, home, folds=Folds(2))
