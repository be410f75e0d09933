from __future__ import annotations

import re
from dataclasses import replace

import duckdb
import pytest

from tasks.features.build import build_features
from tasks.ingest.columns import EXPECTED
from tasks.ingest.read import ingest
from tasks.orchestration import pages
from tasks.storage import duck
from tasks.storage.warehouse import Warehouse
from tasks.training.drift import Drift, Statistic
from tests.helpers.tracks import many

HOSTILE = "<script>x</script> [a](javascript:x) | `y` https://evil.example\n# **b**\u202e"


@pytest.fixture
def published(warehouse) -> Warehouse:
    """A publication with one run on the study's file in budget full, with a failed cell, parity and a leak."""
    with duckdb.connect(str(warehouse.database)) as connection:
        connection.execute(f"""
            create schema results;
            create table results.runs as
            select 'r1' as run_id, 'completed' as status, timestamp '2026-01-01' as started_at,
                timestamp '2026-01-01 00:01:30' as finished_at, 'full' as budget, {duck.literal(HOSTILE)} as source,
                false as is_generated, true as is_study_file, 's' as snapshot, null as git_commit, 2 as cpu_count,
                '/f' as catalogue, true as is_current;
            create table results.cells as
            select 'r1' as run_id, 'published' as protocol, task, model, 'all' as feature_set, 42 as seed,
                'v' as staging_version, key as cell_key, status, reused, error
            from (values
                ('genre', 'multitask', 'k1', 'failed', false, {duck.literal(HOSTILE)}),
                ('popularity', 'multitask', 'k1', 'failed', false, {duck.literal(HOSTILE)}),
                ('genre', 'xgboost', 'k2', 'ok', true, null), ('genre', 'svm', 'k3', 'ok', false, null)
            ) as t(task, model, key, status, reused, error);
            create table results.fold_cells as select *, 1 as fold, 5 as folds from results.cells where false;
            create table results.scores as
            select run_id, protocol, task, model, feature_set, seed, reused, 1.0 as fit_seconds, 1.0 as predict_seconds,
                1.0 as peak_rss_mb, 100 as n_train, null::bigint as sampled_from, null::varchar as sample_reason,
                if(model = 'svm', 0.45551, 0.5) as accuracy, accuracy - 0.01 as accuracy_low,
                accuracy + 0.01 as accuracy_high, 0.4 as precision_macro, 0.4 as recall_macro, 0.4 as f1_macro,
                null as rmse, null as rmse_low, null as rmse_high, null as mae, null as r2, null as spearman
            from results.cells where status = 'ok';
            create table results.protocols as select 'published' as protocol, false as is_probe;
            create table results.feature_sets as select 'all' as feature_set, null as leaks;
            create table results.parity as
            select 'genre' as task, 'svm' as model, 'all' as feature_set, s as split, 'accuracy' as metric, 0.4 as ours,
                0.5 as published, -0.1 as difference, within as is_within
            from (values ('test', true), ('val', false)) as t(s, within);
            create table results.leak_ledger as
            select 'imputation' as leak, 'genre' as task, 'xgboost' as model, 'all' as feature_set, m as metric,
                0.552 as with_leak, 0.451 as without_leak, 0.101 as inflation, 0.091 as inflation_low,
                0.1104 as inflation_high, '/f' as catalogue, 'v' as staging_version
            from (values ('accuracy'), ('f1_macro')) as t(m);
            create table results.learning_curve as
            select 'other' as run_id, 'genre' as task, 'xgboost' as model, 'all' as feature_set, 'accuracy' as metric,
                n as n_train, s as fit_seconds
            from (values (500, 1.0), (1000, 3.0)) as t(n, s);
            create table results.learning_gains as
            select 'other' as run_id, 'genre' as task, 'xgboost' as model, 'all' as feature_set, 'accuracy' as metric,
                500 as rows_before, 1000 as rows_after, 0.4::double as value_before, 0.42::double as value_after,
                0.02::double as gain,
                0.01::double as gain_low, 0.03::double as gain_high, true as is_last;
        """)
    return warehouse


def test_the_pages_of_a_run(published) -> None:
    made = {page.key: page for page in pages.run_pages("r1", published)}
    assert list(made) == ["summary", "leaderboard-genre", "parity", "leak-ledger"]  # no popularity: nothing to show
    board = made["leaderboard-genre"].content
    assert [(row["rank"], row["model"], row["accuracy"], row["95 % interval"], row["reused"]) for row in board] == [
        ("1", "xgboost", "0.500", "0.490 .. 0.510", "reused"), ("2", "svm", "0.456", "0.446 .. 0.466", ""),
    ]  # fmt: skip
    assert made["parity"].description.startswith("1 of the study's 2 figures")
    assert [(row["split"], row["within tolerance"]) for row in made["parity"].content] == [
        ("val", "OFF"),
        ("test", "yes"),
    ]
    [leak] = made["leak-ledger"].content
    assert (leak["inflation"], leak["95 % interval"]) == ("+0.101", "0.091 .. 0.110")
    summary = made["summary"].content
    assert "| cells | 3: 2 ok (1 of them reused), 1 failed |" in summary
    assert "| run | completed in 90 s on 2 cores, budget full |" in summary
    assert "| genre | published | xgboost | all | accuracy 0.500 | 0.490 .. 0.510 |" in summary
    assert "| failed | genre and popularity multitask on all (published, seed 42) | `<script>x</script>" in summary


def test_a_learning_curve_says_what_more_rows_improved(published) -> None:
    with duckdb.connect(str(published.database)) as connection:
        for table in ("learning_curve", "learning_gains"):
            connection.execute(f"update results.{table} set run_id = 'r1'")
    [page] = [page for page in pages.run_pages("r1", published) if page.key == "learning-curve"]
    assert page.content.endswith(
        "- genre, xgboost: the last doubling, from 500 to 1,000 rows, gained +0.020 (accuracy 0.400 to 0.420; 95 % "
        "interval +0.010 to +0.030): more data like this would still help."
    )


def test_nothing_from_outside_leaves_its_code_span(published) -> None:
    for page in pages.run_pages("r1", published):
        text = page.description + (page.content if isinstance(page.content, str) else "")
        assert not re.search(r"[<\[]|evil|javascript", re.sub(r"`[^`]*`", "", text)), page.key
        for row in page.content if isinstance(page.content, list) else []:
            assert not re.search(r"[<\[`|*]", "".join(row.values())), page.key


def test_generated_data_has_keys_of_its_own_and_says_so(published) -> None:
    with duckdb.connect(str(published.database)) as connection:
        connection.execute("update results.runs set is_generated = true, is_study_file = false, budget = 'smoke'")
    made = pages.run_pages("r1", published)
    assert [page.key for page in made] == ["summary-sample", "leaderboard-genre-sample"]  # no parity, no ledger
    assert all(page.description.startswith("**GENERATED DATA.**") for page in made)
    assert made[0].content.startswith("**GENERATED DATA: ")


@pytest.mark.parametrize("text", [HOSTILE, "`", "a`b``c", "\\", "|", "a\\|b", "\x00\x1b[31m", "<b>" * 500])
def test_what_is_quoted_stays_within_its_code_span_and_cell(text) -> None:
    shown = pages.quoted(text)
    assert shown[0] == shown[-1] == "`"
    assert not re.search(r"[`|\n]", shown[1:-1])
    assert shown.isprintable()
    assert len(shown) <= pages.LONGEST + 5


def test_nothing_is_said_to_be_empty() -> None:
    assert pages.quoted(" \n") == "(empty)"


def test_long_tables_are_cut_and_say_so() -> None:
    table = pages._table(["name", "n"], [[f"row{n}", f"{n:,}"] for n in range(1_000)])
    assert "| --- | --: |" in table
    assert "row49 " in table
    assert "row50 " not in table
    assert table.endswith("950 more rows are not shown.")


def test_data_quality_counts_what_was_read_rejected_missing_and_doubled(warehouse, tmp_path) -> None:
    frame = many(200, genres=("Jazz", HOSTILE))
    path = tmp_path / "<b>tracks|.csv"
    rows = frame.select(EXPECTED).to_dicts()
    rows[0] |= {"energy": HOSTILE}
    rows[1] |= {"energy": "much", "mode": "sad"}
    rows[2] |= {"music_genre": "Polka"}
    rows[3] |= {"music_genre": None}
    rows.append(rows[4] | {"instance_id": "777777"})
    type(frame)(rows, schema=frame.select(EXPECTED).schema).write_csv(path)
    snapshot = ingest(str(path), {}, 0.05, warehouse)
    page = pages.quality_page(snapshot, build_features(snapshot, "published", 20, warehouse), warehouse)
    assert page.key == "data-quality"
    text = page.content
    assert isinstance(text, str)
    for line in (
        "| rows read | 201 |",
        "| without a genre | 1 |",
        "| rejected | 2 |",
        "| of genres too rare to split | 1 |",
        "| **tracks kept** | **197** |",
        "| `energy` | `not a finite number` | 2 |",
        "| `mode` | `not Major, Minor, true, false, 1 or 0` | 1 |",
        "| `Polka` | 1 | dropped |",
    ):
        assert line in text, line
    recordings, tracks = re.search(r"([\d,]+) recordings are listed more than once, as ([\d,]+) tracks", text).groups()
    assert 1 <= int(recordings) < int(tracks)
    outside = re.sub(r"`[^`]*`", "", text + page.description)
    assert not re.search(r"[<\[]|evil|javascript", outside)


def test_pages_of_a_trial_say_so(published) -> None:
    assert {page.description.count("Trial r1, budget full") for page in pages.run_pages("r1", published)} == {0}
    with duckdb.connect(str(published.database)) as connection:
        connection.execute("update results.runs set is_current = false")
    assert {page.description.count("Trial r1, budget full") for page in pages.run_pages("r1", published)} == {1}


def test_drift_names_what_drifted_first_and_quotes_what_is_from_outside() -> None:
    figures = {"bins": 10, "n_reference": 50_000, "n": 500, "psi_expected": 0.018, "psi_by_chance": 0.057}
    stable = Statistic(column_name="valence", statistic="distribution", genre=None, reference_share=None, share=None,
                       psi=0.02, psi_corrected=0.002, status="stable", **figures)  # fmt: skip
    large = replace(stable, column_name="energy", psi=1.5, psi_corrected=1.482, status="large")
    gone = replace(stable, column_name="music_genre", statistic="vanished genre", genre=HOSTILE, status="large",
                   reference_share=0.1, share=0.0, psi=None, psi_corrected=None, psi_by_chance=None)  # fmt: skip
    missing = replace(large, statistic="missing", reference_share=0.0, share=0.5, psi_corrected=0.2, status="moderate")
    found = Drift(kind="source", source=HOSTILE, is_generated=False, reference="0" * 16,
                  statistics=(stable, missing, large, gone))  # fmt: skip
    assert found.drifted == [gone, large, missing]
    assert found.status == "large"
    assert "large: vanished genre '<script>x</script>" in found.warning
    assert "', energy (PSI 1.48); moderate: energy (missing: 0.0% before, now 50.0%)" in found.warning
    page = pages.drift_page(found)
    assert page.key == "drift"
    assert "## Drifted: 3" in page.content
    assert "| `energy` | distribution | large | 1.482 | 0.057 |  |  |" in page.content
    assert "| `energy` | missing | moderate | 0.200 | 0.057 | 0.00% | 50.00% |" in page.content
    assert page.content.index("`energy`") < page.content.index("`valence`")
    assert not re.search(r"[<\[]|evil|javascript", re.sub(r"`[^`]*`", "", page.content + page.description))
    assert pages.drift_page(replace(found, kind="predictions", is_generated=True)).key == "predictions-drift-sample"
