# Everything happens in .venv; nothing else on the machine is touched.
PYTHON ?= python3
PY := .venv/bin/python
INSTALLED := .venv/.installed

.PHONY: benchmark test check format server clean

benchmark: $(INSTALLED)  ## the main job on the built-in, generated sample
	$(PY) -m flows.benchmark --source sample

test: $(INSTALLED)  ## the tests; those on the real file need MUSIC_SOURCE
	$(PY) -m pytest

check: $(INSTALLED)  ## style, SQL, types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m sqlfluff lint --disable-progress-bar sql
	$(PY) -m mypy

format: $(INSTALLED)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(PY) -m sqlfluff fix --disable-progress-bar sql

server: $(INSTALLED)  ## a Prefect server with its UI on http://127.0.0.1:4200, until Ctrl-C
	DO_NOT_TRACK=1 .venv/bin/prefect server start --host 127.0.0.1

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache
