"""Feedback as commands and as a page in a real browser (skipped without Chromium)."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from flows.feedback import feedback
from flows.nearest import nearest
from tasks.errors import UserError
from tasks.feedback.adviser import Adviser, Feedback
from tasks.feedback.nearest import known_tracks
from tasks.feedback.page import html
from tasks.feedback.text import print_feedback
from tasks.feedback.track import selected_track
from tasks.feedback.wording import factor
from tests.helpers.commands import clean_environment, run
from tests.helpers.pages import BROKEN, CONTRAST, CUT, SCRIPT, SIDEWAYS, STRUCTURE, Outline, needs_browser
from tests.helpers.tracks import tracks
from tests.helpers.untrusted import UNTRUSTED

FIGURES = {"why-popularity", "why-genre", "genres", "what-if", "similar"}


@pytest.fixture(scope="module")
def told(trained, tmp_path_factory) -> Feedback:
    """Of a track and a neighbourhood whose every text is HTML with a script."""
    path = tmp_path_factory.mktemp("told") / "t.csv"
    tracks({"artist_name": SCRIPT, "track_name": UNTRUSTED[0], "tempo": ""}).write_csv(path)
    adviser = Adviser.load(trained, "gradient_boosting", 1)
    with selected_track(str(path), None, {}, adviser.known, trained) as chosen:
        found = adviser.feedback(chosen)
    genre = found.because["genre"]
    assert genre.reasons is not None
    reasons = replace(genre.reasons, genres=(SCRIPT, *genre.reasons.genres[1:]))
    hostile = [
        row | {"artist_name": text, "track_name": SCRIPT, "music_genre": text}
        for row, text in zip(found.similar, UNTRUSTED[-len(found.similar) :], strict=True)
    ]
    return replace(
        found,
        similar=hostile,
        because=found.because | {"genre": replace(genre, reasons=reasons)},
        prediction=found.prediction | {"predicted_genre": SCRIPT},
    )


@pytest.fixture(scope="module")
def page(told, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "feedback.html"
    path.write_text(html(told), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ordinary(trained, tmp_path_factory) -> Path:
    """The page of a track with an ordinary name."""
    folder = tmp_path_factory.mktemp("ordinary")
    tracks({"tempo": ""}).write_csv(folder / "t.csv")
    return feedback(
        str(folder / "t.csv"), out=str(folder / "o.html"), model="gradient_boosting", warehouse=str(trained.root)
    )


def test_the_page_says_what_there_is_to_say(told, page) -> None:
    outline = Outline(page.read_text(encoding="utf-8"))
    assert set(outline.figures) == FIGURES
    assert not {tag for tag, _ in outline.tags} & {"script", "img", "iframe", "object", "embed", "base", "form"}
    assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on")]
    assert "Association, not cause" in outline.figures["what-if"]
    assert "(filled in)" in outline.figures["why-popularity"]
    assert all("Generated data, not real music" in text for text in outline.figures.values())


def test_the_result_comes_first_then_what_is_missing_and_the_models_last(told, page) -> None:
    text = page.read_text(encoding="utf-8")
    head, rest = text.split("<main")
    main, footer = rest.split("<footer")
    popularity = told.prediction["popularity"]
    assert head.index(f"Popularity: {popularity:.1f} (90 % interval") < head.index("Missing and filled in")
    assert head.index("One change would change the popularity most") < head.index("Missing and filled in")
    changed = max(
        (one.popularity[at] for one in told.what_if for at in (one.lowest, one.highest)),
        key=lambda other: abs(other - popularity),
    )
    assert f"The predicted popularity would be {changed:.1f}, not {popularity:.1f}." in head
    assert "gradient_boosting" not in head + main
    assert re.search(r"predicts popularity</dt><dd>gradient_boosting on all \(cold_start\), run", footer)
    assert re.search(r"explained for popularity</dt><dd>xgboost on all \(cold_start\), run", footer)


def test_there_is_one_popularity_and_a_sentence_on_the_difference(told, page) -> None:
    popularity, reasons = told.prediction["popularity"], told.because["popularity"].reasons
    away = popularity - reasons.outputs[0]
    assert abs(away) > 0.1
    why = Outline(page.read_text(encoding="utf-8")).figures["why-popularity"]
    assert f"The features of this track lead to {popularity:.1f}," in why
    assert f"The last step, {away:+.1f}, is the difference of two models." in why
    assert not re.search(rf"\b{reasons.outputs[0]:.1f}\b", why)
    points = re.findall(r"[+-]\d+\.\d\d", why)
    assert reasons.average[0] + sum(map(float, points)) == pytest.approx(popularity, abs=0.1)


def test_odds_are_told_as_factors(told, page) -> None:
    reasons = told.because["genre"].reasons
    pushes = reasons.contributions[reasons.genres.index(SCRIPT)]
    assert f"({factor(max(pushes, key=abs))})" in Outline(page.read_text(encoding="utf-8")).figures["why-genre"]
    assert "log-odds" not in page.read_text(encoding="utf-8")
    assert [factor(math.log(odds)) for odds in (2.0, 0.5, 1.02, 0.98)] == [
        "\u00d72.0",
        "\u00f72.0",
        "\u00d71.0",
        "\u00d71.0",
    ]


@pytest.mark.parametrize("task", ["genre", "popularity"])
def test_one_task_alone_and_a_model_that_cannot_be_taken_apart(trained, tmp_path, capsys, task) -> None:
    adviser = Adviser.load(trained, "gradient_boosting", 1)
    alone = replace(
        adviser,
        predictor=replace(adviser.predictor, by_task={task: adviser.predictor.by_task[task]}),
        explainers={task: None},
    )
    tracks({}).write_csv(tmp_path / "t.csv")
    with selected_track(str(tmp_path / "t.csv"), None, {}, alone.known, trained) as chosen:
        found = alone.feedback(chosen, 2)
    figures = Outline(html(found)).figures
    assert set(figures) == {f"why-{task}", "similar"} | ({"what-if"} if task == "popularity" else set())
    assert "--models xgboost_tuned" in figures[f"why-{task}"]
    print_feedback(found)
    assert "which cannot be explained" in " ".join(capsys.readouterr().out.split())


def test_the_summary_takes_no_text_for_markup(told, capsys) -> None:
    print_feedback(told)
    out = capsys.readouterr().out
    assert "\x1b[31m" not in out
    assert "\u202e" not in out
    assert "Association, not cause" in out
    assert "explained for popularity: xgboost on all (cold_start)" in out
    assert "log-odds" not in out


def test_the_flows_write_a_page_and_list_tracks(trained, tmp_path, capsys) -> None:
    tracks({}, {"energy": ""}).write_csv(tmp_path / "t.csv")
    out = feedback(str(tmp_path / "t.csv"), 2, str(tmp_path / "o.html"), model="xgboost", warehouse=str(trained.root))
    assert "Feedback on one track" in out.read_text(encoding="utf-8")
    assert "A Track by An Artist" in capsys.readouterr().out
    found = nearest(str(tmp_path / "t.csv"), 2, 3, str(trained.root))
    assert len(found) == 3
    assert found[0]["track_name"] in capsys.readouterr().out
    with pytest.raises(UserError, match=r"must end in \.html"):
        feedback(str(tmp_path / "t.csv"), 2, str(tmp_path / "o.pdf"), warehouse=str(trained.root))


def test_the_command_refuses_in_one_line(trained) -> None:
    environment = clean_environment(MUSIC_WAREHOUSE=str(trained.root))
    refused = run(environment, "--track-id", "-3", flow="nearest")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert f"none of the {known_tracks(trained).n_rows:,} known tracks" in refused.stderr


@pytest.mark.slow
@needs_browser
@pytest.mark.long
class TestInABrowser:
    def test_every_figure_is_seen_and_nothing_scrolls_sideways(self, look, page) -> None:
        for width in (1280, 390, 320):
            seen = look(page, width)
            seen.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            assert all(figure.is_visible() for figure in seen.locator("figure").all())
            assert seen.locator("figure").count() == len(FIGURES)
            assert seen.evaluate("document.documentElement.scrollWidth") <= width

    def test_a_phone_shows_every_column_and_every_label(self, look, ordinary) -> None:
        seen = look(ordinary, 390)
        seen.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert all(head.is_visible() for head in seen.locator("thead th").all())
        assert seen.evaluate(SIDEWAYS) == []
        assert seen.evaluate(CUT) == []
        assert seen.evaluate(BROKEN) == []

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_contrast_and_structure(self, look, page, scheme) -> None:
        seen = look(page, scheme=scheme)
        seen.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert seen.evaluate(CONTRAST) == []
        assert seen.evaluate(STRUCTURE) == {
            "h1": 1, "jumps": 0, "silent": 0, "uncaptioned": 0, "unscoped": 0, "headless": 0, "twice": 0,
            "language": "en", "landmarks": [],
        }  # fmt: skip

    def test_names_do_no_harm(self, look, page) -> None:
        seen = look(page)
        assert seen.evaluate("window.harmed") is None
        assert seen.locator("img, script, [onerror], [onload]").count() == 0
        assert seen.get_by_text("window.harmed='script'").first.is_visible()
