"""The examples of CONTRIBUTING.md work: each is carried out as the document says, in a copy of the project."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest

from tests.helpers.commands import ROOT, clean_environment

pytestmark = pytest.mark.long
# What stands above a block of code, and what is to be done with the block.
STEP = re.compile(
    r"(?:(?P<write>Write)|(?P<append>Append to)|Add to (?:(?P<imports>the imports of)|`(?P<name>\w+)` in))"
    r" `(?P<path>[^`]+)`:\n\n```\w+\n(?P<block>.*?)```",
    re.DOTALL,
)
COMMAND = re.compile(r"^python -m flows\.(benchmark|query) (.*)$", re.MULTILINE)
OF_RUN = "--source sample:400 --protocol median --models naive_bayes,linear --feature-sets mood --budget smoke"


@dataclass
class Project:
    """A copy of the project with a warehouse of its own."""

    root: Path
    environment: dict[str, str]
    text: str = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    changed: list[str] = field(default_factory=list)

    @property
    def warehouse(self) -> Path:
        return self.root / "warehouse"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=600, check=False
        )

    def do(self, *command: str) -> str:
        """What a command prints. It must succeed."""
        ended = self.run(*command)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def python(self, *options: str) -> str:
        return self.do(sys.executable, *options)

    def query(self, sql: str) -> list[tuple]:
        with duckdb.connect(str(self.warehouse / "music.duckdb"), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def carry_out(self, step: re.Match[str]) -> None:
        """One step of the document."""
        file, block = self.root / step["path"], step["block"]
        if step["write"]:
            assert not file.exists(), step["path"]
            file.parent.mkdir(exist_ok=True)
            file.write_text(block, encoding="utf-8")
        else:
            text = file.read_text(encoding="utf-8")
            if step["append"]:
                text += f"\n\n{block}" if file.suffix == ".py" else block
            elif step["imports"]:
                at = [node.end_lineno for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
                lines = text.splitlines(keepends=True)
                text = "".join([*lines[: at[-1]], block, *lines[at[-1] :]])
            else:
                text = _extended(text, step["name"], block)
            file.write_text(text, encoding="utf-8")
        if step["path"] not in self.changed:
            self.changed.append(step["path"])


def _extended(text: str, name: str, block: str) -> str:
    """A module's text with a block as the last entry of what it assigns to a name."""
    [value] = [
        node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id == name
    ]
    lines = text.splitlines(keepends=True)
    end = sum(map(len, lines[: value.end_lineno - 1])) + value.end_col_offset - 1  # of ASCII lines
    assert text[end] == ")"
    entries = text[:end].rstrip()
    return entries + ("" if entries.endswith(",") else ",") + "\n" + block + text[end:]


@pytest.fixture(scope="module")
def project(tmp_path_factory, prefect_server) -> Project:
    """A copy in which every step is done, `make format` too, and in which one run has ended."""
    from prefect.settings import PREFECT_API_URL

    root = tmp_path_factory.mktemp("copy")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    environment = clean_environment(
        PREFECT_API_URL=PREFECT_API_URL.value(), MUSIC_WAREHOUSE=str(root / "warehouse"), PYTHONPATH=str(root)
    )
    made = Project(root, environment)
    for step in STEP.finditer(made.text):
        made.carry_out(step)
    python = [name for name in made.changed if name.endswith(".py")]
    made.python("-m", "ruff", "check", "--fix", "--quiet", *python)
    made.python("-m", "ruff", "format", "--quiet", *python)
    made.python("-m", "flows.benchmark", *OF_RUN.split())
    return made


def test_every_block_of_code_is_a_step(project) -> None:
    blocks = re.findall(r"^```(?:python|sql|markdown)$", project.text, re.MULTILINE)
    assert len(list(STEP.finditer(project.text))) == len(blocks) > 10


def test_every_command_of_the_document_is_possible(project) -> None:
    """Queries return rows. What a benchmark asks for is in the grid; it is not run."""
    lines = [(flow, shlex.split(options)) for flow, options in COMMAND.findall(project.text)]
    for sql in (options[0] for flow, options in lines if flow == "query"):
        assert project.query(sql), sql
    asked = [options for flow, options in lines if flow == "benchmark"]
    code = """if True:
        import json, sys
        from unittest import mock
        from flows import benchmark
        from flows.options import parsed
        for words in json.loads(sys.argv.pop()):
            command, options = parsed(benchmark.COMMAND.app(), words)
            with mock.patch("flows.fan_out.outcome_of_run") as run:
                command.run(options)
            print(len(run.call_args.args[2]))
    """
    cells = project.python("-c", code, json.dumps(asked)).split()
    assert len(cells) == len(asked) > 3
    assert "0" not in cells


def test_the_model_is_trained_on_the_feature_set(project) -> None:
    cells = project.query("select model, feature_set, protocol, status, error from results.cells order by model")
    assert cells == [(model, "mood", "median", "ok", None) for model in ("linear", "naive_bayes")]
    used = project.query(
        "select model, list(feature_name order by feature_name) from results.importance group by model"
    )
    assert dict(used) == {model: ["energy", "mode_code", "valence"] for model in ("linear", "naive_bayes")}
    [(accuracy,)] = project.query("select accuracy from results.leaderboard where model = 'naive_bayes'")
    assert accuracy > 0.15  # of ten genres


def test_the_protocol_fills_with_the_median_over_the_training_rows(project) -> None:
    fills = dict(project.query("select feature_name, value from features.statistics where statistic = 'fill'"))
    assert len(fills) == 12
    for name, fill in fills.items():
        known = project.query(
            f"""
            select {name} from staging.stg_tracks inner join features.split_assignment using (track_id)
            where split = 'train' and {name} is not null
            """
        )
        assert fill == statistics.median_low(value for (value,) in known), name
    filled = project.query(
        """
        select clean.tempo from features.tracks_clean as clean inner join staging.stg_tracks as tracks using (track_id)
        where tracks.tempo is null
        """
    )
    assert set(filled) == {(round(fills["tempo"], 3),)}


def test_the_metric_is_a_column_with_an_interval_and_a_description(project) -> None:
    [(expected,)] = project.query(
        """
        select avg(cast(abs(y_pred - y_true) <= 10 as integer)) from results.predictions
        where model = 'linear' and split = 'test'
        """
    )
    [(value, low, high)] = project.query(
        "select within_10, within_10_low, within_10_high from results.leaderboard where model = 'linear'"
    )
    assert value == pytest.approx(expected)
    assert 0 < low < value < high < 1
    [told] = project.query("select distinct comment from duckdb_columns() where column_name = 'within_10'")
    assert f'meaning="{told[0]}"' in project.text
    page = project.python("-m", "tasks.results.descriptions", str(project.warehouse / "music.duckdb"))
    assert f"| `within_10` | {told[0]} |" in page.splitlines()


def test_the_check_stops_a_build_that_breaks_its_rule(project) -> None:
    file = project.root / "sql" / "protocols" / "median" / "fill_values.sql"
    text, where = file.read_text(encoding="utf-8"), "    where split.split = 'train'\n"
    assert where in text
    file.write_text(text.replace(where, ""), encoding="utf-8")
    code = """if True:
        import sys
        from tasks.features.build import build_features
        from tasks.ingest.read import ingest
        from tasks.storage.warehouse import Warehouse
        opened = Warehouse.at(sys.argv[1])
        build_features(ingest("sample:400", {}, 0.05, opened), "median", 20, opened)
    """
    build = (sys.executable, "-c", code, str(project.root / "another"))
    broken = project.run(*build)
    file.write_text(text, encoding="utf-8")
    assert "break the rule of sql/checks/learnt_medians.sql: feature_name " in broken.stderr
    assert broken.returncode != 0
    project.do(*build)


def test_the_figure_is_in_the_report(project) -> None:
    [report] = (project.warehouse / "reports").glob("*.html")
    [figure] = re.findall(r'<figure id="figure-winners">.*?</figure>', report.read_text(encoding="utf-8"), re.DOTALL)
    assert "Best of 2 leaderboards: linear, naive_bayes." in figure


def test_the_copy_passes_the_checks_and_the_tests_of_names_and_keys(project) -> None:
    python = [name for name in project.changed if name.endswith(".py")]
    project.python("-m", "ruff", "check", *python)
    project.python("-m", "ruff", "format", "--check", *python)
    project.python("-m", "sqlfluff", "lint", *(name for name in project.changed if name.endswith(".sql")))
    project.do(str(Path(sys.executable).parent / "lint-imports"), "--no-logo")
    tests = ("tests/test_docs.py", "tests/tasks/training/test_cell_key.py", "tests/tasks/evaluation/test_bootstrap.py")
    project.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "every or replicate_is", *tests)
