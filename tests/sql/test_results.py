from __future__ import annotations

import duckdb
import pytest

from tasks import duck

RUN = "run_id, started_at, is_generated, is_study_file, source, snapshot"
METRIC = "run_id, protocol, task, model, feature_set, seed, split, slice, metric, value"


@pytest.fixture
def results() -> duckdb.DuckDBPyConnection:
    """The results schema with two full runs on the study's file, the second newer, and no view yet."""
    connection = duck.connect()
    connection.execute(f"""
        create table results.runs as
        select * from (values
            ('r1', timestamp '2026-01-01', false, true, 'f', 's'),
            ('r2', timestamp '2026-01-02', false, true, 'f', 's')
        ) as t({RUN});
        create table results.metrics as
        select * from (select r, 'published', 'genre', m, 'all', 42, 'test', s, 'accuracy', v::double from (values
            ('r1', 'mlp', 'all', 0.4), ('r2', 'mlp', 'all', 0.45),
            ('r1', 'svm', 'all', 0.5), ('r1', 'svm', 'imputed', 0.9), ('r1', 'svm', 'observed', 0.4)
        ) as t(r, m, s, v)) as u({METRIC});
        create table results.cells as
        select distinct run_id, protocol, task, model, feature_set, seed,
            'full' as budget, 'ok' as status, false as reused, 'v' as staging_version,
            1.0 as fit_seconds, 1.0 as predict_seconds, 1.0 as peak_rss_mb,
            1 as n_train
        from results.metrics;
        create table results.published as
        select 'genre' as task, m as model, 'all' as feature_set, 'test' as split, 'accuracy' as metric,
            v::double as value
        from (values ('mlp', 0.449), ('svm', 0.504)) as t(m, v);
    """)
    return connection


def view(connection: duckdb.DuckDBPyConnection, *names: str) -> None:
    for name in names:
        connection.execute(f"create view results.{name} as {duck.render(f'results/{name}')}")


def test_the_leaderboard_has_the_newest_value_of_each_cell_best_first(results) -> None:
    view(results, "scores", "leaderboard")
    rows = results.execute("select rank, model, accuracy, run_id from results.leaderboard").fetchall()
    assert rows == [(1, "svm", 0.5, "r1"), (2, "mlp", 0.45, "r2")]


def test_parity_is_ours_beside_the_published_figure(results) -> None:
    view(results, "latest", "parity")
    rows = results.execute("select model, ours, published, is_within from results.parity order by 1").fetchall()
    assert [(model, ours, published) for model, ours, published, _ in rows] == [
        ("mlp", 0.45, 0.449),
        ("svm", 0.5, 0.504),
    ]
    assert [row[3] for row in rows] == [True, False]


def test_parity_applies_to_the_studys_file_only(results) -> None:
    results.execute("update results.runs set is_study_file = false")
    view(results, "latest", "parity")
    assert results.execute("select * from results.parity").fetchall() == []


def test_the_ledger_sets_the_slices_side_by_side(results) -> None:
    view(results, "latest", "leak_ledger")
    rows = results.execute("""
        select published_all, published_imputed, published_observed, inflation
        from results.leak_ledger where model = 'svm'
    """).fetchall()
    assert rows == [(0.5, 0.9, 0.4, None)]
