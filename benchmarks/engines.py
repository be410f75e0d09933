"""Prepares feature tables from a raw CSV by this project, by polars (streaming) and by pandas.

The tables are those of protocol `published`: raw rows, typed rows, rejected values, staged tracks, split, filled,
one-hot, standardized, PCA and multi-task. The polars tables equal this project's (to 1e-6), with the same checks.
polars copies the staged table, which this project links if no row is dropped. pandas does what the study did: it keeps
no raw rows and rejects no values.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import study
from tasks.features.splits import SHARES
from tasks.specs import AUDIO_FEATURES

GENRE = "music_genre"
TARGETS = ["popularity", GENRE]


def prepare_music(csv: Path, out: Path, protocol: str = "published") -> None:
    """Ingests and builds like `python -m flows.features`, but does not publish."""
    from tasks.features.build import build_features
    from tasks.ingest.read import ingest
    from tasks.storage.warehouse import Warehouse

    warehouse = Warehouse.at(out)
    build_features(ingest(str(csv), {}, 0.05, warehouse), protocol, 20, warehouse)


def prepare_polars(csv: Path, out: Path) -> None:
    """Makes the same tables and checks by polars' streaming engine, one lazy query a table."""
    digest = hashlib.file_digest(csv.open("rb"), "sha256").hexdigest()
    as_read = pl.scan_csv(csv, infer_schema=False, row_index_name="row_number", row_index_offset=1)
    raw = _stored(as_read, out / f"tracks_{digest[:16]}.parquet")
    typed = _stored(_typed(raw), out / "typed_tracks.parquet")
    rejects = _rejects(typed, raw)
    rejects.write_parquet(out / "rejects.parquet")
    sound = typed.filter(pl.col(GENRE).is_not_null()).join(rejects.lazy(), on="row_number", how="anti")
    counts = sound.group_by(GENRE).len().filter(pl.col("len") >= 20).collect(engine="streaming")
    genres = pl.DataFrame({GENRE: counts[GENRE].sort()}).with_row_index("genre_id")
    staged = _stored(sound.join(genres.lazy(), on=GENRE, how="semi"), out / "stg_tracks.parquet")
    split = _stored(_split(staged, genres), out / "split_assignment.parquet")
    clean = _stored(_clean(staged, split, genres), out / "tracks_clean.parquet")

    protocol = pl.lit("published").alias("protocol")
    place, known = ["track_id", "split", "position"], ["genre_id", "is_imputed"]
    one_hot = [(pl.col("genre_id") == row).cast(pl.UInt8).alias(f"genre_{name}") for row, name in genres.iter_rows()]
    _stored(clean.select(protocol, "track_id", *AUDIO_FEATURES, "popularity", *one_hot), out / "tracks_one_hot.parquet")
    moments = (
        clean.filter(pl.col("split") == "train")
        .select(
            *(pl.col(name).mean().alias(f"{name}_mean") for name in AUDIO_FEATURES),
            *(pl.col(name).std(ddof=0).alias(f"{name}_std") for name in AUDIO_FEATURES),
        )
        .collect(engine="streaming")
    )
    z_scores = [
        ((pl.col(name) - moments[f"{name}_mean"][0]) / moments[f"{name}_std"][0]).alias(name) for name in AUDIO_FEATURES
    ]
    standardized = _stored(clean.select(protocol, *place, *z_scores, *TARGETS, *known), out / "tracks_std.parquet")
    _stored(
        standardized.select(protocol, *place, *AUDIO_FEATURES, *one_hot, "popularity", *known),
        out / "tracks_multitask.parquet",
    )
    _stored(
        standardized.select(protocol, *place, *_components(standardized), *TARGETS, *known), out / "tracks_pca.parquet"
    )
    _check(staged, split, standardized)


def _stored(table: pl.LazyFrame, path: Path) -> pl.LazyFrame:
    table.sink_parquet(path, compression="snappy")
    return pl.scan_parquet(path)


def _split(staged: pl.LazyFrame, genres: pl.DataFrame) -> pl.LazyFrame:
    from tasks.features.splits import study_split

    in_order = staged.join(genres.lazy(), on=GENRE).select("row_number", "track_id", "genre_id").sort("row_number")
    keys = in_order.collect(engine="streaming")
    track_id = keys["track_id"].to_numpy()
    parts = study_split(keys["genre_id"].to_numpy())
    del keys
    return pl.concat(
        pl.LazyFrame({"track_id": track_id[rows], "position": np.arange(len(rows))}).select(
            pl.lit("published").alias("protocol"),
            "track_id",
            pl.lit(name).alias("split"),
            "position",
            pl.col("track_id").alias("group_id"),
        )
        for name, rows in parts.items()
    )


def _clean(staged: pl.LazyFrame, split: pl.LazyFrame, genres: pl.DataFrame) -> pl.LazyFrame:
    keys = staged.filter(pl.col("key_code").is_not_null()).group_by(GENRE, "key_code").len()
    key_fill = keys.sort("len", "key_code", descending=[True, False]).group_by(GENRE, maintain_order=True).first()
    means = staged.group_by(GENRE).agg(
        pl.col("tempo").mean().round(3).alias("tempo_fill"), pl.col("duration_ms").mean().round(0).alias("ms_fill")
    )
    fill = means.join(key_fill.select(GENRE, pl.col("key_code").alias("key_fill")), on=GENRE)
    learnt = fill.join(genres.lazy(), on=GENRE).collect(engine="streaming").lazy()
    return (
        staged.join(learnt, on=GENRE)
        .join(split.select("track_id", "split", "position"), on="track_id")
        .with_columns(
            pl.coalesce("tempo", "tempo_fill").round(3).alias("tempo"),
            pl.coalesce("duration_ms", "ms_fill").alias("duration_ms"),
            pl.coalesce("key_code", "key_fill").alias("key_code"),
            (pl.col("is_tempo_missing") | pl.col("is_duration_missing") | pl.col("is_key_missing")).alias("is_imputed"),
        )
        .select(
            pl.lit("published").alias("protocol"),
            *("track_id", "row_number", "split", "position"),
            *AUDIO_FEATURES,
            *TARGETS,
            *("genre_id", "is_imputed"),
        )
    )


def _components(standardized: pl.LazyFrame) -> list[pl.Expr]:
    products = [pl.col(a).dot(pl.col(b)).alias(f"{a}*{b}") for a in AUDIO_FEATURES for b in AUDIO_FEATURES]
    sums = standardized.filter(pl.col("split") == "train").select(*products).collect(engine="streaming")
    variance, vectors = np.linalg.eigh(np.array(sums.row(0)).reshape(len(AUDIO_FEATURES), -1))
    vectors *= np.sign(np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[np.newaxis], axis=0))
    kept = int(np.searchsorted(np.cumsum(variance[::-1] / variance.sum()), 0.95, side="right")) + 1
    return [
        pl.sum_horizontal(pl.col(name) * vectors[row, -1 - number] for row, name in enumerate(AUDIO_FEATURES)).alias(
            f"pc{number + 1}"
        )
        for number in range(kept)
    ]


def _check(staged: pl.LazyFrame, split: pl.LazyFrame, standardized: pl.LazyFrame) -> None:
    """Runs the checks of sql/checks/one_split.sql and finite.sql."""
    known = split.group_by("track_id").agg(pl.len().alias("splits"), pl.col("split").is_in(list(SHARES)).all())
    tracks = staged.group_by("track_id").len()
    apart = tracks.join(known, on="track_id", how="full").filter(
        pl.col("len").ne_missing(1) | pl.col("splits").ne_missing(1) | ~pl.col("split")
    )
    values = pl.all_horizontal(pl.col("popularity", *AUDIO_FEATURES).is_finite().fill_null(value=False))
    for broken in (apart, standardized.filter(~values)):
        if broken.head(3).collect(engine="streaming").height:
            raise SystemExit("a check found rows")


def _typed(raw: pl.LazyFrame) -> pl.LazyFrame:
    """Returns staging.typed_tracks: numbers and codes; NULL where a value is missing or invalid."""
    texts = [name for name in raw.collect_schema().names() if name not in ("row_number", "instance_id")]
    measured = [name for name in AUDIO_FEATURES if name not in ("key_code", "mode_code", "duration_ms", "tempo")]
    key = pl.col("key").str.strip_chars()
    duration, tempo = (pl.col(name).cast(pl.Float64, strict=False) for name in ("duration_ms", "tempo"))
    popularity = pl.col("popularity").cast(pl.Float64, strict=False)
    return raw.filter(pl.any_horizontal(pl.col(texts).is_not_null())).select(
        "row_number",
        pl.col("instance_id").cast(pl.Float64, strict=False).cast(pl.Int64, strict=False).alias("track_id"),
        pl.col("artist_name").str.strip_chars().replace("empty_field", None),
        "track_name",
        *(pl.col(name).cast(pl.Float64, strict=False) for name in measured),
        pl.when(duration > 0).then(duration).alias("duration_ms"),
        pl.when(tempo > 0).then(tempo).alias("tempo"),
        key.replace_strict(study.KEYS, default=None, return_dtype=pl.Float64).alias("key_code"),
        pl.col("mode")
        .str.strip_chars()
        .replace_strict(study.MODES, default=None, return_dtype=pl.Float64)
        .alias("mode_code"),
        pl.when(popularity.is_between(0, 100)).then(popularity).alias("popularity"),
        pl.col(GENRE).str.strip_chars(),
        (pl.col("tempo").str.strip_chars().is_in(["?", ""]) | tempo.is_in([-1.0, 0.0]).fill_null(value=False))
        .fill_null(value=True)
        .alias("is_tempo_missing"),
        (pl.col("duration_ms").str.strip_chars().is_in(["?", ""]) | (duration == -1.0).fill_null(value=False))
        .fill_null(value=True)
        .alias("is_duration_missing"),
        key.is_in(["?", ""]).fill_null(value=True).alias("is_key_missing"),
    )


def _rejects(typed: pl.LazyFrame, raw: pl.LazyFrame) -> pl.DataFrame:
    """Returns raw.rejects: a row per bad value or repeated id, with its text."""
    with_genre = typed.filter(pl.col(GENRE).is_not_null())
    needed = [name for name in AUDIO_FEATURES if name not in ("key_code", "duration_ms", "tempo")]
    is_bad = {name: pl.col(name).is_null() for name in ("track_id", "popularity", *needed)}
    is_bad |= {
        name: pl.col(name).is_null() & ~pl.col(f"is_{short}_missing")
        for name, short in {"tempo": "tempo", "duration_ms": "duration", "key_code": "key"}.items()
    }
    bad = (
        with_genre.select("row_number", *(flag.alias(name) for name, flag in is_bad.items()))
        .filter(pl.any_horizontal(pl.col(list(is_bad))))
        .unpivot(index="row_number", variable_name="column_name", value_name="is_bad")
        .filter("is_bad")
        .select("row_number", "column_name")
        .collect(engine="streaming")
    )
    repeated = with_genre.select("row_number", "track_id").filter(pl.col("track_id").is_duplicated()).collect()
    later = repeated.filter(~pl.col("track_id").is_first_distinct()).select(
        "row_number", column_name=pl.lit("track_id")
    )
    reasons = pl.concat([bad, later])
    return reasons.join(raw.join(reasons.lazy(), on="row_number", how="semi").collect(), on="row_number")


def prepare_pandas(csv: Path, out: Path) -> None:
    """Runs the study's steps in memory, without its intermediate CSV files."""
    import pandas as pd

    clean = study.encode(study.impute(study.clean(pd.read_csv(csv))))
    clean.to_parquet(out / "tracks_one_hot.parquet", compression="snappy")
    scaled = study.standardize(study.split(clean))
    for name, frame in scaled.items():
        frame.to_parquet(out / f"tracks_multitask_{name}.parquet", compression="snappy")
        frame[["instance_id", *study.AUDIO, *TARGETS]].to_parquet(out / f"tracks_std_{name}.parquet")
    for name, frame in study.project(scaled).items():
        frame.to_parquet(out / f"tracks_pca_{name}.parquet", compression="snappy")
