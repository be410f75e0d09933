from __future__ import annotations

import duckdb
import pytest

from tasks.ingest.columns import MEASURED
from tasks.specs import AUDIO_FEATURES
from tasks.storage import duck

RUN = "run_id, started_at, is_generated, is_study_file, source, snapshot, catalogue, is_current"
METRIC = "run_id, protocol, task, model, feature_set, seed, source, split, slice, metric, value"
ACCURACY = {"metrics": ["accuracy", "rmse"], "measured_features": MEASURED}


@pytest.fixture
def results() -> duckdb.DuckDBPyConnection:
    """The results schema with two full runs on the study's file, the second newer, and no view yet."""
    connection = duck.connect()
    connection.execute(f"""
        create table results.runs as
        select * from (values
            ('r1', timestamp '2026-01-01', false, true, 'f', 's', '/f', true),
            ('r2', timestamp '2026-01-02', false, true, 'f', 's', '/f', true)
        ) as t({RUN});
        create table results.metrics as
        select *, value - 0.1 as ci_low, value + 0.1 as ci_high, 100 as n
        from (select r, 'published', 'genre', m, 'all', 42, 'f', 'test', s, 'accuracy', v::double from (values
            ('r1', 'mlp', 'all', 0.4), ('r2', 'mlp', 'all', 0.45),
            ('r1', 'svm', 'all', 0.5), ('r1', 'svm', 'imputed', 0.9), ('r1', 'svm', 'observed', 0.4)
        ) as t(r, m, s, v)) as u({METRIC});
        create table results.cells as
        select distinct run_id, protocol, task, model, feature_set, seed, source,
            'full' as budget, 'ok' as status, false as reused, 'v' as staging_version,
            1.0 as fit_seconds, 1.0 as predict_seconds, 1.0 as peak_rss_mb,
            1 as n_train, null::bigint as sampled_from, null as sample_reason,
            run_id || model as result, 'd' as test_rows, 'v' as feature_version, '{{}}'::json as params
        from results.metrics;
        create table results.protocols as
        select p as protocol, p like '%_apart' as is_probe
        from (values ('published'), ('label_free'), ('cold_start'), ('artists_apart')) as t(p);
        create table results.feature_sets as
        select * from (values ('all', null), ('all_with_genre', 'genre')) as t(feature_set, leaks);
        create table results.published as
        select 'genre' as task, m as model, 'all' as feature_set, 'test' as split, 'accuracy' as metric,
            v::double as value
        from (values ('mlp', 0.449), ('svm', 0.504)) as t(m, v);
    """)
    return connection


def view(connection: duckdb.DuckDBPyConnection, *names: str) -> None:
    for name in names:
        connection.execute(f"create view results.{name} as {duck.render(f'results/{name}', **ACCURACY)}")


def test_the_leaderboard_has_the_newest_value_of_each_cell_best_first(results) -> None:
    view(results, "newest", "latest", "figures", "leaderboards", "leaderboard")
    rows = results.execute("select rank, model, accuracy, run_id from results.leaderboard").fetchall()
    assert rows == [(1, "svm", 0.5, "r1"), (2, "mlp", 0.45, "r2")]


def test_parity_is_ours_beside_the_published_figure(results) -> None:
    view(results, "newest", "latest", "parity")
    rows = results.execute("select model, ours, published, is_within from results.parity order by 1").fetchall()
    assert [(model, ours, published) for model, ours, published, _ in rows] == [
        ("mlp", 0.45, 0.449),
        ("svm", 0.5, 0.504),
    ]
    assert [row[3] for row in rows] == [True, False]


def test_a_figure_better_than_published_is_no_parity_either(results) -> None:
    for table in ("metrics", "cells", "published"):
        results.execute(f"update results.{table} set model = 'multitask' where model = 'svm'")
    results.execute("update results.published set value = 0.48 where model = 'multitask'")
    view(results, "newest", "latest", "parity")
    found = results.execute("select ours, is_within from results.parity where model = 'multitask'")
    assert found.fetchall() == [(0.5, False)]


def test_parity_applies_to_the_studys_file_only(results) -> None:
    results.execute("update results.runs set is_study_file = false")
    view(results, "newest", "latest", "parity")
    assert results.execute("select * from results.parity").fetchall() == []


def test_the_ledger_sets_the_slices_side_by_side(results) -> None:
    results.execute("""
        create table results.inflation as
        select null as leak, null as staging_version, null as task, null as model, null as feature_set, null as metric,
            null as catalogue, null as budget, 0.0 as value_a, 0.0 as value_b,
            0.0 as ci_low, 0.0 as ci_high, [''] as results_a
        where false
    """)
    view(results, "newest", "latest", "figures", "leak_ledger")
    rows = results.execute("""
        select published_all, published_imputed, published_observed, inflation
        from results.leak_ledger where model = 'svm'
    """).fetchall()
    assert rows == [(0.5, 0.9, 0.4, None)]


def add_cell(results: duckdb.DuckDBPyConnection, run: str, seed: int, accuracy: float, params: str = "{}") -> None:
    """A cell of mlp, as trained in `run`."""
    results.execute(
        "insert into results.cells by name select * replace (? as run_id, ? as seed, ?::json as params) "
        "from results.cells where model = 'mlp' limit 1",
        [run, seed, params],
    )
    results.execute(
        "insert into results.metrics by name select * replace (? as run_id, ? as seed, ? as value) "
        "from results.metrics where model = 'mlp' limit 1",
        [run, seed, accuracy],
    )


def test_the_leaderboard_is_the_mean_over_seeds_and_their_spread(results) -> None:
    add_cell(results, "r2", 43, 0.47)
    add_cell(results, "r1", 44, 0.10, '{"other": "settings"}')  # not of the newest settings: does not count
    view(results, "newest", "latest", "figures", "leaderboards", "leaderboard")
    rows = results.execute(
        "select seeds, accuracy, accuracy_sd from results.leaderboard where model = 'mlp'"
    ).fetchall()
    assert rows == [(2, pytest.approx(0.46), pytest.approx(0.02 / 2**0.5))]


def test_members_of_a_multitask_ensemble_are_rows_of_the_task_that_they_predict(results) -> None:
    results.execute("""
        insert into results.cells by name
        select * replace ('popularity' as task) from results.cells where run_id = 'r2';
        create table stored_results as
        select 'r2mlp' as result, [
            {'task': 'genre', 'name': 'knn', 'weight': 0.25, 'out_of_fold': 0.5},
            {'task': 'genre', 'name': 'svm', 'weight': 0.75, 'out_of_fold': 0.25},
            {'task': 'popularity', 'name': 'knn', 'weight': 1.0, 'out_of_fold': 12.0},
        ] as members
    """)
    view(results, "ensemble_members")
    rows = results.execute("select run_id, task, model, member, weight, out_of_fold from results.ensemble_members")
    assert rows.fetchall() == [
        ("r2", "genre", "mlp", "knn", 0.25, 0.5),
        ("r2", "genre", "mlp", "svm", 0.75, 0.25),
        ("r2", "popularity", "mlp", "knn", 1.0, 12.0),
    ]


def test_probes_and_leaking_feature_sets_are_not_on_the_leaderboard(results) -> None:
    results.execute("""
        update results.cells set feature_set = 'all_with_genre' where model = 'mlp';
        update results.metrics set feature_set = 'all_with_genre' where model = 'mlp';
        update results.cells set protocol = 'artists_apart' where model = 'svm';
        update results.metrics set protocol = 'artists_apart' where model = 'svm';
    """)
    view(results, "newest", "latest", "figures", "leaderboards", "leaderboard")
    assert results.execute("select count(*) from results.leaderboard").fetchall() == [(0,)]
    assert results.execute("select count(*) from results.figures").fetchall() == [(2,)]


def test_comparisons_are_corrected_for_the_number_of_pairs(results) -> None:
    view(results, "newest", "latest", "figures")
    [pair] = results.execute(
        f"select model_a, model_b, value_a, value_b from ({duck.render('results/pairs')}) where metric = 'accuracy'"
    ).fetchall()
    assert pair == ("mlp", "svm", 0.45, 0.5)
    results.execute("""
        create table contrasted as
        select 's' as staging_version, 'full' as budget, 'p' as protocol, 'genre' as task, 'all' as feature_set,
            'accuracy' as metric, a as model_a, b as model_b, va as value_a, vb as value_b, 0 as ci_low, 0 as ci_high,
            p::double as p_value, false as is_generated, 'f' as source, '/f' as catalogue
        from (values
            ('a', 'b', 1, 2, 0.01), ('a', 'c', 2, 1, 0.02), ('b', 'c', 1, 2, 0.9), ('a', 'd', 1, 2, null)
        ) as t(a, b, va, vb, p)
    """)
    view(results, "comparisons")
    rows = results.execute("select model_a, model_b, p_holm, better from results.comparisons").fetchall()
    assert rows == [
        ("a", "b", pytest.approx(0.03), "b"),
        ("a", "c", pytest.approx(0.04), "a"),
        ("a", "d", None, None),  # undefined: no winner, and not one of the pairs
        ("b", "c", pytest.approx(0.9), None),
    ]


@pytest.mark.parametrize(
    ("of_svm", "of_mlp", "n_pairs"),
    [("'d'", "'d'", 1), ("'other'", "'d'", 0), ("null", "'d'", 0), ("null", "null", 0)],  # null: not known
)
def test_only_figures_of_the_same_test_rows_are_compared(of_svm, of_mlp, n_pairs, results) -> None:
    results.execute(f"update results.cells set test_rows = if(model = 'svm', {of_svm}, {of_mlp})")
    view(results, "newest", "latest", "figures")
    assert results.execute(f"select count(*) from ({duck.render('results/pairs')})").fetchall() == [(n_pairs,)]
    assert results.execute("select count(*) from results.figures").fetchall() == [(2,)]


@pytest.mark.parametrize(
    ("of_r1", "of_r2", "is_paired"), [("'d'", "'d'", True), ("'d'", "'e'", False), ("null", "null", False)]
)
def test_two_runs_are_paired_where_their_test_rows_are_the_same(of_r1, of_r2, is_paired, results) -> None:
    results.execute(f"update results.cells set test_rows = if(run_id = 'r1', {of_r1}, {of_r2})")
    compared = duck.render("report/compared")
    rows = results.execute(
        f"select model, value_a, value_b, has_same_rows from ({compared})", {"run_id": "r1", "other": "r2"}
    ).fetchall()
    assert rows == [("mlp", 0.4, 0.45, is_paired)]


def test_figures_by_genre_and_pair_of_genres(results) -> None:
    results.execute("""
        create table results.confusion as
        select 'r' as run_id, 'p' as protocol, 'm' as model, 'all' as feature_set, 42 as seed, 'f' as source,
            'test' as split, *
        from (values
            ('Jazz', 'Jazz', 6), ('Jazz', 'Rap', 2), ('Jazz', 'Rock', 2),
            ('Rap', 'Jazz', 3), ('Rap', 'Rap', 7), ('Rap', 'Rock', 0),
            ('Rock', 'Jazz', 0), ('Rock', 'Rap', 0), ('Rock', 'Rock', 0)
        ) as t(true_genre, predicted_genre, n)
    """)
    results.execute("""
        update results.cells set protocol = 'p', model = 'm', run_id = 'r1' where model = 'svm';
        update results.confusion set run_id = 'r1';
    """)
    view(results, "newest", "genres", "genre_pairs")
    rows = results.execute("select genre, precision, recall, f1, n from results.genres order by genre").fetchall()
    assert rows == [
        ("Jazz", pytest.approx(6 / 9), 0.6, pytest.approx(12 / 19), 10),
        ("Rap", pytest.approx(7 / 9), 0.7, pytest.approx(14 / 19), 10),
        ("Rock", 0.0, 0.0, 0.0, 0),
    ]
    rows = results.execute(
        "select confusion, accuracy_if_merged from results.genre_pairs where genre_b = 'Rap'"
    ).fetchall()
    assert rows == [(0.25, 0.9)]


def test_popularity_errors_are_those_of_the_newest_cells(results) -> None:
    results.execute("""
        update results.cells set task = 'popularity' where model = 'mlp';
        create table stored_results as
        select result, [{'split': 'test', 'bucket_by': 'genre', 'bucket': run_id, 'n': 3, 'rmse': 2.0, 'mae': 1.0,
            'bias': -1.0}] as popularity_errors
        from results.cells
        union all
        select 'r0mlp', null
    """)
    view(results, "newest", "popularity_errors")
    rows = results.execute("select run_id, model, bucket, n, rmse, mae, bias from results.popularity_errors").fetchall()
    assert rows == [("r2", "mlp", "r2", 3, 2.0, 1.0, -1.0)]


def test_the_ceiling_is_what_the_most_frequent_genre_of_identical_rows_gives(results) -> None:
    columns = ", ".join(f"0.0 as {name}" for name in AUDIO_FEATURES if name != "tempo")
    results.execute(f"""
        create table features.tracks_clean as
        select 'label_free' as protocol, split, genre as music_genre, tempo, {columns}
        from (values ('train', 'Rap', 1.0), ('train', 'Rap', 1.0), ('train', 'Jazz', 2.0), ('test', 'Jazz', 1.0))
            as t(split, genre, tempo);
        create table raw.snapshots as select 'f' as source, true as is_published;
    """)
    view(results, "ceiling")
    rows = results.execute("select features, split, ceiling, n from results.ceiling").fetchall()
    assert rows == [
        ("all", "any", 0.75, 4), ("all", "test", 1.0, 1), ("all", "train", 1.0, 3),
        ("untouched", "any", 0.5, 4), ("untouched", "test", 1.0, 1), ("untouched", "train", pytest.approx(2 / 3), 3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "before"),
    [
        ("", "r2"),
        ("status = 'failed'", "r1"),
        ("budget = 'smoke'", "r1"),
        ("catalogue = '/g'", "r1"),
        ("started_at = timestamp '2026-01-04'", "r1"),
        ("run_id = 'r2 of svm'", "r1"),
        ("run_id = 'r2 of another seed'", "r1"),
    ],
)
def test_the_run_before_is_the_newest_of_the_same_catalogue_budget_and_cells(changed, before) -> None:
    connection = duck.connect()
    connection.execute("""
        create table results.runs as
        select run_id, day::timestamp as started_at, 'completed' as status, 'full' as budget, '/f' as catalogue
        from (values ('r1', '2026-01-01'), ('r2', '2026-01-02'), ('r3', '2026-01-03')) as t(run_id, day);
        create table results.cells as
        select run_id, 'published' as protocol, 'genre' as task, model, 'all' as feature_set, seed
        from (values
            ('r1', 'mlp', 42), ('r1', 'mlp', 43), ('r3', 'mlp', 43), ('r3', 'mlp', 42),
            ('r2', 'mlp', 42), ('r2', 'mlp', 43),
            ('r2 of svm', 'mlp', 42), ('r2 of svm', 'mlp', 43), ('r2 of svm', 'svm', 42),
            ('r2 of another seed', 'mlp', 42), ('r2 of another seed', 'mlp', 44)
        ) as t(run_id, model, seed);
    """)
    if changed:
        connection.execute(f"update results.runs set {changed} where run_id = 'r2'")
    found = connection.execute(duck.render("report/run_before"), {"run_id": "r3"}).fetchall()
    assert found == [(before,)]
    assert connection.execute(duck.render("report/run_before"), {"run_id": "r1"}).fetchall() == []
