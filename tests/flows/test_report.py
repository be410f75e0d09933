"""The report: what stands in the file, and how it looks in a real browser (skipped without Chromium)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from html import unescape
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from tasks.reporting import terminal
from tasks.reporting.page import Figure, Section, render
from tasks.reporting.report import run_page, write_comparison, write_report
from tasks.results import database
from tasks.storage.warehouse import Warehouse
from tasks.training.drift import Drift, source_drift, store_predictions
from tests.helpers.commands import refusal
from tests.helpers.pages import BROKEN, CONTRAST, CUT, SCRIPT, STRUCTURE, Outline, needs_browser
from tests.helpers.runs import make_run
from tests.helpers.tracks import many

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
QUOTE = "\"'><svg onload=\"window.harmed='svg'\"> {{ 7 * 7 }} & Co"
FIGURES = {
    "leaderboard-genre", "leaderboard-popularity", "leaks", "parity", "f1-by-features", "rmse-by-features",
    "importance-genre", "importance-popularity", "confusion", "predicted-popularity", "reliability", "history", "time",
    "failures", "quality", "genres", "distributions", "correlations", "champions", "coverage", "champion-calibration",
    "drift", "predictions-drift",
}  # fmt: skip
# The columns that are seen of the first table of each figure.
HEADS = """() => Object.fromEntries([...document.querySelectorAll('figure')].map((figure) => [figure.id,
  [...(figure.querySelector('table')?.tHead.rows[0].cells || [])].filter((e) => e.offsetWidth)
    .map((e) => e.textContent)]))"""
MODELS = ("knn", "linear", "xgboost", "mlp", "logistic_regression")


@dataclass(frozen=True)
class Reported:
    """A run and its report."""

    home: Warehouse
    run_id: str
    path: Path

    @property
    def html(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def query(self, sql: str) -> list[tuple]:
        with duckdb.connect(str(self.home.database), read_only=True) as connection:
            return connection.execute(sql).fetchall()


def reported(home: Warehouse, *options: Any, **more: Any) -> Reported:
    run_id = make_run(home, *options, **more)
    return Reported(home, run_id, write_report(run_id, home))


def catalogue(folder: Path, genres: tuple[str, ...], n: int, name: str = "tracks.csv") -> str:
    path = folder / name
    many(n, genres).write_csv(path)
    return str(path)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Reported:
    """Generated data, two protocols."""
    home = Warehouse.at(tmp_path_factory.mktemp("sample"))
    protocols = ("published", "cold_start")
    return reported(home, "sample:2000", MODELS, ("all", "rhythm"), protocols=protocols)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Reported:
    """A file whose every text is HTML with a script, and a cell that fails with one."""
    folder = tmp_path_factory.mktemp("hostile")
    frame = many(600, ("Jazz", SCRIPT, QUOTE, "Rap"))
    frame = frame.with_columns(artist_name=pl.lit(SCRIPT), track_name=pl.lit(QUOTE))
    bad = pl.when(pl.int_range(pl.len()) < 5).then(pl.lit(SCRIPT)).otherwise(pl.col("energy"))
    path = folder / "<img src=x onerror=alert(1)>.csv"
    frame.with_columns(energy=bad).write_csv(path)
    return reported(Warehouse.at(folder / "wh"), str(path), MODELS, errors={"logistic_regression": SCRIPT})


@pytest.fixture(scope="module")
def two_genres(tmp_path_factory) -> Reported:
    folder = tmp_path_factory.mktemp("two")
    return reported(Warehouse.at(folder / "wh"), catalogue(folder, ("Jazz", "Rap"), 300), ("knn",))


@pytest.fixture(scope="module")
def many_genres(tmp_path_factory) -> Reported:
    folder = tmp_path_factory.mktemp("many")
    genres = tuple(f"Genre number {number}" for number in range(120))
    return reported(Warehouse.at(folder / "wh"), catalogue(folder, genres, 3000), ("knn", "linear"))


@pytest.fixture(scope="module")
def failed(tmp_path_factory) -> Reported:
    home = Warehouse.at(tmp_path_factory.mktemp("failed"))
    return reported(home, "sample:1000", ("knn", "linear"), errors={"knn": "no memory", "linear": "no patience"})


@pytest.fixture(params=["sample", "hostile", "two_genres", "many_genres", "failed"])
def any_report(request) -> Reported:
    return request.getfixturevalue(request.param)


def test_a_report_holds_every_figure_and_needs_nothing_else(any_report) -> None:
    outline = Outline(any_report.html)
    expected = FIGURES - ({"genres", "distributions", "correlations"} if "quality" not in outline.figures else set())
    assert set(outline.figures) == expected
    names = {tag for tag, _ in outline.tags}
    assert not names & {"script", "img", "iframe", "object", "embed", "base", "form"}
    links = [value for _, attributes in outline.tags for name, value in attributes.items() if name in {"href", "src"}]
    assert all(str(link).startswith(("#", "data:,")) for link in links)
    assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on")]
    assert "url(" not in any_report.html
    assert "@import" not in any_report.html
    assert len(any_report.html) < 1_000_000


def test_a_report_with_fifty_tables_is_below_a_megabyte(sample) -> None:
    with database.published(sample.home) as connection:
        run = database.find_run(connection, None)
    with database.as_of(run, sample.home) as connection:
        page = run_page(connection, run)
    figures = [figure for section in page.sections for figure in section.figures]
    largest = sorted((table for figure in figures for table in figure.tables), key=lambda table: -len(table.rows))
    plots = [figure for figure in figures if figure.plots]
    tables = list(islice(cycle(largest), 50))
    html = render(
        replace(
            page,
            sections=[
                Section(
                    name="all", title="All", figures=[*plots, Figure(name="x", title="X", finding="", tables=tables)]
                )
            ],
        )
    )
    assert html.count("<caption>") >= 50
    assert len(html.encode()) < 1_000_000


def test_a_report_begins_with_its_contents_and_three_sentences(sample) -> None:
    head = sample.html.split("<main")[0]
    assert head.index('aria-label="Contents"') < head.index('class="findings"')
    sentences = [" ".join(one.split()) for one in re.findall(r"<li>([^<]+)</li>", head.split('class="findings"')[1])]
    [(genre, accuracy), (popularity, rmse)] = sample.query(
        """
        select arg_max(model, accuracy), max(accuracy) from results.scores
        where task = 'genre' and protocol = 'cold_start'
        union all
        select arg_min(model, rmse), min(rmse) from results.scores
        where task = 'popularity' and protocol = 'cold_start'
        """
    )
    assert len(sentences) == 3
    assert f"models are {genre} for genre (accuracy {accuracy:.3f}, 95 % interval " in sentences[0]
    assert f"{popularity} for popularity (RMSE {rmse:.2f}, " in sentences[0]
    assert sentences[1] == "No champion predicts new tracks yet."
    assert "The leak was not measured" in sentences[2]  # label_free was not trained


def test_a_report_says_what_its_protocols_mean(sample) -> None:
    meanings = dict(re.findall(r"<dt>Protocol (\w+)</dt><dd>([^<]+)</dd>", sample.html))
    told = sample.query("select protocol, description from results.protocols")
    assert {name: unescape(meaning) for name, meaning in meanings.items()} == {
        name: description for name, description in told if name in {"published", "cold_start"}
    }


def test_the_sql_of_a_table_returns_its_rows(any_report) -> None:
    outline = Outline(any_report.html)
    tables = {attributes["aria-label"] for _, attributes in outline.tags if attributes.get("class") == "scroll"}
    shown = {attributes["aria-label"] for tag, attributes in outline.tags if tag == "pre"}
    assert shown == {f"SQL of {str(name).removesuffix(', the others')}" for name in tables}
    for sql in set(outline.sql):
        assert any_report.query(sql), sql


def test_a_model_has_an_anchor_to_which_links_lead(sample) -> None:
    ids = {str(attributes["id"]) for _, attributes in Outline(sample.html).tags if "id" in attributes}
    links = re.findall(r'href="#([^"]+)"', sample.html)
    assert set(links) <= ids
    trained = sample.query("select distinct task, model from results.scores where protocol = 'cold_start'")
    assert {f"{task}-{model}" for task, model in trained} <= set(links)


def test_one_confusion_matrix_is_drawn(sample) -> None:
    confusion = sample.html.split('id="figure-confusion"')[1].split("</figure>")[0]
    assert confusion.count('class="plot matrix"') == 1
    assert "Under cold_start" in confusion
    assert confusion.count("<caption>Each genre, protocol ") == 2


def test_generated_data_is_marked_on_every_figure_and_real_data_on_none(sample, hostile) -> None:
    assert all("Generated data, not real music" in text for text in Outline(sample.html).figures.values())
    assert "Generated data" not in hostile.html


def test_names_and_errors_from_outside_are_shown_as_text(hostile) -> None:
    figures = Outline(hostile.html).figures
    for name in ("genres", "quality", "failures"):
        assert "<img src=x onerror=\"window.harmed='img'" in figures[name]
    assert "{{ 7 * 7 }}" in figures["genres"]


def test_the_figures_are_those_of_the_database(sample) -> None:
    figures = Outline(sample.html).figures
    best = sample.query(
        "select protocol, max(accuracy) from results.scores where task = 'genre' and feature_set = 'all' group by all"
    )
    assert len(best) == 2
    for protocol, accuracy in best:
        said = rf"Under {protocol} the best model is \w+ on \w+: accuracy {accuracy:.3f}, "
        assert re.search(said, figures["leaderboard-genre"])
    [(read,)] = sample.query("select rows_read from raw.snapshots")
    assert f"{read:,} rows read" in figures["quality"]
    epochs = sample.query("select max(epoch) from results.history where model = 'mlp'")[0][0]
    assert f"{epochs} epochs" in figures["history"]
    cells = sample.query("select count(*) from results.cells where not reused")[0][0]
    assert f"{cells} cells took" in figures["time"]
    assert "Thread budget: 1 cell at a time, 1 thread per cell, on " in figures["time"]


def test_champions_are_shown_with_what_they_replaced_and_their_coverage(trained, tmp_path) -> None:
    home = tmp_path / "wh"
    shutil.copytree(trained.root, home)
    with duckdb.connect(str(home / "music.duckdb")) as connection:  # as if a champion before had been replaced
        connection.execute(
            """
            insert into results.champions
            select * replace (
                'knn' as model, 'before' as run_id, false as is_current, chosen_at - interval 1 day as chosen_at
            )
            from results.champions
            """
        )
        connection.execute(
            "update results.champions set replaced = 'knn on all (x)', reason = 'better' where is_current"
        )
        [(model, coverage, width, error)] = connection.execute(
            "select any_value(model) filter (task = 'popularity'), max(coverage), max(half_width), max(ece) "
            "from results.champions where is_current"
        ).fetchall()
        chosen = connection.execute("select task, model, chosen_at from results.champions order by all").fetchall()
    html = write_report(None, Warehouse.at(home)).read_text(encoding="utf-8")
    figures = Outline(html).figures
    assert (
        f"The champion for popularity is {model} on all (cold_start), since this run. Why: better."
        in (figures["champions"])
    )
    assert re.search(r"knn on all.*this run.*knn.*before", figures["champions"], re.DOTALL)
    assert f"popularity of {100 * coverage:.1f}\u00a0% of the test tracks is within" in figures["coverage"]
    assert f"plus or minus {width:.1f} points. It promised 90\u00a0%." in figures["coverage"]
    assert f"off by {error:.3f} on average" in figures["champion-calibration"]
    for task, name, since in chosen:
        of_task = figures["coverage" if task == "popularity" else "champion-calibration"]
        assert f"{name} since {since:%Y-%m-%d %H:%M}" in of_task
    current = [f"{name} for {task} (since this run)" for task, name, _ in chosen if name != "knn"]
    assert f"New tracks are predicted by the champions {' and '.join(current)}." in html


@pytest.mark.long
def test_a_trial_names_its_champions_as_its_own_and_every_protocol(tmp_path) -> None:
    home = Warehouse.at(tmp_path / "wh")
    make_run(home, catalogue(tmp_path, ("Jazz", "Rap"), 300), ("linear",))
    protocols = ("published", "label_free", "artists_apart", "artists_any")
    trial = reported(home, "sample:1000", ("linear", "xgboost"), protocols=protocols, chooses=True)
    figures = Outline(trial.html).figures
    assert "This run is a trial" in trial.html
    assert "(the trial's)" in figures["coverage"]
    assert "(current)" not in trial.html
    assert "predict new tracks</h2>" not in trial.html
    assert "<dd>published, label_free, artists_apart, artists_any</dd>" in trial.html
    for leak in ("imputation", "artists"):  # each has a table, the largest first, with the feature sets on a phone, too
        head, rows = trial.html.split(f"<caption>What the leak {leak} adds to accuracy</caption>")[1].split("<tbody>")[
            :2
        ]
        assert '<th scope="col" class="text">features</th>' in head
        added = [
            abs(float(one)) for one in re.findall(r'<td class="number">([+-][\d.]+)</td>', rows.split("</tbody>")[0])
        ]
        assert added
        assert added == sorted(added, reverse=True)


def test_the_champions_calibration_is_drawn_and_the_others_are_folded(trained) -> None:
    with duckdb.connect(str(trained.database), read_only=True) as connection:
        [(champion,)] = connection.execute(
            "select model from results.champions where is_current and task = 'genre'"
        ).fetchall()
        [(models,)] = connection.execute(
            "select count(distinct model) from results.calibration where split = 'test' and feature_set = 'all'"
        ).fetchall()
    html = write_report(None, trained).read_text(encoding="utf-8")
    seen, folded = html.split('id="figure-reliability"')[1].split("</figure>")[0].split("<details>")
    assert f"s model is {champion}." in seen
    assert "before the champion&#39;s calibration" in seen
    assert seen.count("<h4>") == 1
    assert folded.count("<h4>") == models - 1


def test_a_failed_run_says_so_and_names_what_failed(failed) -> None:
    figures = Outline(failed.html).figures
    assert "This run is failed" in failed.html
    assert "2 of 2 cells did not succeed" in figures["failures"]
    assert "no patience" in figures["failures"]
    assert "No cell of this kind succeeded" in figures["confusion"]


def test_a_run_that_never_ended_has_a_report(tmp_path) -> None:
    home = Warehouse.at(tmp_path)
    run_id = make_run(home, "sample:1000", ("knn",), ended=False)
    assert "This run is running" in write_report(run_id, home).read_text(encoding="utf-8")


@pytest.mark.long
def test_an_old_run_is_reported_with_its_own_tracks(tmp_path) -> None:
    home = Warehouse.at(tmp_path / "wh")
    first = make_run(home, catalogue(tmp_path, ("Polka", "Waltz"), 300, "a.csv"), ("knn",))
    make_run(home, catalogue(tmp_path, ("Jazz", "Rap"), 300, "b.csv"), ("knn",))
    genres = Outline(write_report(first, home).read_text(encoding="utf-8")).figures["genres"]
    assert "Polka" in genres
    assert "Jazz" not in genres


def test_many_genres_are_drawn_in_a_few_paths_and_listed(many_genres) -> None:
    confusion = Outline(many_genres.html).figures["confusion"]
    assert len(re.findall(r"<path", many_genres.html)) < 500
    assert all(f"Genre number {number}" in confusion for number in range(120))


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Warehouse, str, str]:
    """Two runs of the same models, one of which fails in the second run."""
    home = Warehouse.at(tmp_path_factory.mktemp("pair"))
    first = make_run(home, "sample:2000", ("knn", "xgboost"))
    again = make_run(home, "sample:2000", ("knn", "xgboost"), errors={"knn": "no memory"}, refresh=True)
    return home, first, again


def test_two_runs_side_by_side(pair) -> None:
    home, first, again = pair
    html = write_comparison(again, first, home).read_text(encoding="utf-8")
    figures = Outline(html).figures
    assert "Same settings, source and versions." not in figures["settings"] or "NO" in figures["settings"]
    assert "1 cells fail that did not in the other run" in figures["failing"]
    assert "no memory" in figures["failing"]
    assert "paired" in figures["difference-genre"]
    assert "+0.000" in figures["difference-genre"]  # the same fit twice
    same = make_run(home, "sample:2000", ("xgboost",))
    html = write_comparison(same, again, home).read_text(encoding="utf-8")
    assert "same cell" in Outline(html).figures["difference-genre"]


@pytest.mark.long
def test_runs_on_other_rows_are_not_paired(tmp_path) -> None:
    home = Warehouse.at(tmp_path)
    first = make_run(home, "sample:1000", ("knn",))
    other = make_run(home, "sample:1500", ("knn",))
    html = write_comparison(other, first, home).read_text(encoding="utf-8")
    rows = re.findall(r"<tr><th[^>]*>knn</th>.*?</tr>", html, re.DOTALL)
    assert rows
    assert all("plain" in row and " .. " not in row for row in rows)
    assert "read different data" in html


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.report", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_command_writes_any_run_and_refuses_unknown_ones_in_one_line(sample, tmp_path) -> None:
    where = ["--warehouse", str(sample.home.root)]
    done = command(*where)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(sample.path)
    assert "Benchmark run" in write_report(sample.run_id, sample.home, tmp_path / "one.html").read_text("utf-8")
    refused = command(*where, "--run", "nope")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "Unknown run 'nope'. Newest: " + sample.run_id in refused.stderr
    (tmp_path / "empty").mkdir()
    for options, reason in [
        ([*where, "--compare", sample.run_id], f"--compare {sample.run_id}: is the run itself"),
        ([*where, "--out", str(tmp_path / "no" / "x.html")], f"there is no folder {tmp_path / 'no'}"),
        ([*where, "--out", str(tmp_path)], "it is a folder"),
        (["--warehouse", str(tmp_path / "empty")], "music.duckdb: not there"),
    ]:
        told = refusal(*options, flow="report")
        assert "\n" not in told
        assert reason in told


def test_the_command_sets_two_runs_side_by_side(pair, tmp_path) -> None:
    home, first, _ = pair
    out = tmp_path / "two.html"
    assert command("--warehouse", str(home.root), "--compare", first, "--out", str(out)).returncode == 0
    assert "Two benchmark runs" in out.read_text(encoding="utf-8")


# In a browser.


@pytest.mark.long
@needs_browser
class TestInABrowser:
    def test_every_figure_is_seen_and_nothing_scrolls_sideways(self, look, any_report) -> None:
        for width in (1280, 390, 320):
            page = look(any_report.path, width)
            figures = page.locator("figure")
            assert figures.count() >= len(FIGURES) - 3
            assert all(figure.is_visible() for figure in figures.all())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if width == 390:
                page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
                assert page.evaluate("document.documentElement.scrollWidth") <= width

    def test_what_is_drawn_has_a_size_and_stays_in_its_figure(self, look, sample) -> None:
        for width in (1280, 390):
            outside = look(sample.path, width).evaluate(
                """() => [...document.querySelectorAll('svg.plot, svg.wide')].filter((e) => {
                    const [a, b] = [e.getBoundingClientRect(), e.closest('figure').getBoundingClientRect()];
                    return a.width < 100 || a.height < 40 || a.left < b.left - 1 || a.right > b.right + 1;
                }).length"""
            )
            assert outside == 0

    def test_no_label_is_cut(self, look, sample) -> None:
        for width in (1280, 390):
            page = look(sample.path, width)
            page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            assert page.evaluate(CUT) == []
            assert page.evaluate(BROKEN) == []

    def test_a_phone_has_the_number_before_the_strip_and_no_secondary_columns(self, look, sample) -> None:
        seen = {width: look(sample.path, width).evaluate(HEADS) for width in (601, 599, 390)}
        assert seen[601]["figure-leaderboard-genre"] == [
            "model", "features", "accuracy", "95 % interval", "interval", "precision", "recall", "f1",
        ]  # fmt: skip
        assert seen[599] == seen[390]
        assert seen[390]["figure-leaderboard-genre"] == ["model", "features", "accuracy", "95 % interval"]
        assert seen[390]["figure-time"] == ["model", "protocol", "took", "time"]

    def test_a_table_that_scrolls_has_a_shadow_at_its_end_until_that_is_seen(self, look, hostile) -> None:
        for scheme in ("light", "dark"):
            page = look(hostile.path, 320, scheme)
            table = page.locator("#figure-failures .scroll")
            table.evaluate("(e) => { e.style.width = '120px'; }")
            assert table.evaluate("(e) => e.scrollWidth > e.clientWidth + 50")
            before = table.screenshot()
            table.evaluate("(e) => { e.style.background = 'none'; }")
            assert table.screenshot() != before
            table.evaluate("(e) => { e.style.background = ''; e.scrollLeft = e.scrollWidth; }")
            at_the_end = table.screenshot()
            table.evaluate("(e) => { e.style.background = 'none'; }")
            assert table.screenshot() == at_the_end

    def test_a_link_leads_to_a_model(self, look, sample) -> None:
        page = look(sample.path, 390)
        page.locator(".links a", has_text="linear").click()
        assert page.locator("#popularity-linear").is_visible()
        assert page.evaluate("document.querySelector('tr:target').id") == "popularity-linear"

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_contrast_suffices(self, look, sample, scheme) -> None:
        page = look(sample.path, scheme=scheme)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")
        assert page.evaluate(CONTRAST) == []

    def test_a_screen_reader_finds_its_way(self, look, any_report) -> None:
        found = look(any_report.path).evaluate(STRUCTURE)
        assert found == {
            "h1": 1, "jumps": 0, "silent": 0, "uncaptioned": 0, "unscoped": 0, "headless": 0, "twice": 0,
            "language": "en", "landmarks": [],
        }  # fmt: skip

    def test_names_do_no_harm(self, look, hostile) -> None:
        page = look(hostile.path)
        assert page.evaluate("window.harmed") is None
        assert page.locator("img, script, [onerror], [onload]").count() == 0
        assert page.get_by_text("window.harmed='script'").first.is_visible()

    def test_it_prints_whole(self, look, sample) -> None:
        page = look(sample.path, scheme="dark")
        hidden = page.locator("details tbody tr").last
        assert not hidden.is_visible()
        page.emulate_media(media="print")
        assert hidden.is_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("document.querySelector('nav').offsetHeight") == 0
        assert not page.locator("pre").first.is_visible()
        pdf = page.pdf(format="A4", print_background=True)
        assert pdf.startswith(b"%PDF")
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 3

    def test_two_runs_side_by_side(self, look, tmp_path) -> None:
        home = Warehouse.at(tmp_path)
        first, second = (make_run(home, "sample:1000", ("knn", "linear"), refresh=again) for again in (False, True))
        path = write_comparison(second, first, home, tmp_path / "two.html")
        for width in (1280, 390):
            page = look(path, width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("figure").count() == 5
        assert page.evaluate(STRUCTURE)["jumps"] == 0


@pytest.mark.long
def test_drift_of_the_source_and_of_predicted_files(tmp_path, capsys) -> None:
    home = Warehouse.at(tmp_path / "wh")
    first = reported(home, catalogue(tmp_path, ("Jazz", "Rap"), 600), ("knn",))
    assert "it is the first of its catalogue" in first.html
    assert "No file was predicted yet." in first.html
    halved = many(600, ("Jazz", SCRIPT)).with_columns(energy=(pl.col("energy").cast(pl.Float64) / 2).cast(pl.String))
    halved.write_csv(tmp_path / "tracks.csv")
    run_id = make_run(home, str(tmp_path / "tracks.csv"), ("knn",))
    [found] = [source_drift(file.stem, home) for file in home.files("drift", "source")]
    predicted = Drift(**asdict(found) | {"kind": "predictions", "source": QUOTE, "statistics": found.statistics})
    assert store_predictions([predicted], str(tmp_path / "tracks.csv"), home) is None
    second = reported(home, str(tmp_path / "tracks.csv"), ("knn",))
    shown = unescape(second.html)
    assert re.search(r"Since the snapshot before, [0-9a-f]{16}, \d+ of \d+ statistics drifted: .*energy", shown)
    assert "1 of 1 predicted files differ from the models' training rows." in shown
    assert SCRIPT not in second.html
    assert second.query("select distinct kind from results.drift where is_drifted order by kind") == [
        ("predictions",), ("source",),
    ]  # fmt: skip
    terminal.print_run(run_id, home)
    assert "DRIFT: tracks.csv differs from the snapshot before it" in capsys.readouterr().out
