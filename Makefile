# Everything happens in .venv; nothing else on the machine is touched.
SHELL := bash
PYTHON ?= python3
PY := .venv/bin/python
INSTALLED := .venv/.installed
PORT ?= 4200
PREFECT_API_URL = http://127.0.0.1:$(PORT)/api
# Prefect's state, with its schedules, is this folder's, not the user's.
export PREFECT_HOME ?= $(CURDIR)/.local/prefect
PREFECT := PREFECT_API_URL=$(PREFECT_API_URL) DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false \
	PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT=false .venv/bin/prefect
ANSWERS = $(PY) -c "import httpx; httpx.get('$(PREFECT_API_URL)/health').raise_for_status()" 2> /dev/null

.PHONY: benchmark test test-all check bench bench-check format server deploy worker up down clean

benchmark: $(INSTALLED)  ## the main job on the built-in, generated sample
	$(PY) -m flows.benchmark --source sample --protocol main --feature-sets all

test: $(INSTALLED)  ## the tests, without those that take long; those on the real file need MUSIC_SOURCE
	$(PY) -m pytest -m "not alone and not long" --numprocesses 3 --dist loadfile
	$(PY) -m pytest -m "alone and not long"

test-all: $(INSTALLED)  ## every test, with everything that it can try; COVERAGE=--cov says what they reach
	TESTS=all $(PY) -m pytest -m "not alone" --numprocesses 2 --dist loadfile $(COVERAGE)
	TESTS=all $(PY) -m pytest -m alone

check: $(INSTALLED)  ## style, SQL, types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m sqlfluff lint --disable-progress-bar sql
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo

bench: $(INSTALLED)  ## measure every ratio again and write benchmarks/results/
	$(PY) -m benchmarks.suite

bench-check: $(INSTALLED)  ## fail if a ratio is over twice the committed one, five times
	$(PY) -m benchmarks.suite --check

format: $(INSTALLED)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(PY) -m sqlfluff fix --disable-progress-bar sql

server: $(INSTALLED)  ## a Prefect server with its UI on http://127.0.0.1:4200 (or PORT=...), until Ctrl-C
	$(PREFECT) server start --host 127.0.0.1 --port $(PORT)

deploy: $(INSTALLED)  ## tell the server what can be scheduled (prefect.yaml), and of what to alert (NOTIFY=slack-webhook/team: by that block)
	$(PREFECT) work-pool inspect local-process > /dev/null 2>&1 || $(PREFECT) work-pool create --type process local-process
	$(PREFECT) --no-prompt deploy --all
	PREFECT_API_URL=$(PREFECT_API_URL) $(PY) -m flows.alerts $(if $(NOTIFY),--notify $(NOTIFY))

worker: $(INSTALLED)  ## run here what is scheduled or started in the UI, until Ctrl-C
	$(PREFECT) worker start --pool local-process

# Without `set -m` the shell has what it starts in the background ignore SIGINT, by which a worker ends.
up: $(INSTALLED)  ## server, deployments and worker in the background
	@! $(ANSWERS) || { echo "A server answers at $(PREFECT_API_URL) already. make down ends one that make up started."; exit 1; }
	@mkdir -p .local
	@set -m; $(PREFECT) server start --host 127.0.0.1 --port $(PORT) > .local/server.log 2>&1 & echo $$! > .local/server.pid
	@for try in $$(seq 120); do $(ANSWERS) && exit 0; kill -0 $$(cat .local/server.pid) 2> /dev/null || break; sleep 1; done; \
		rm .local/server.pid; echo "It did not start: $$(tail -n 1 .local/server.log)"; exit 1
	@$(MAKE) --no-print-directory deploy > .local/deploy.log 2>&1 || { tail -n 20 .local/deploy.log; exit 1; }
	@set -m; $(PREFECT) worker start --pool local-process > .local/worker.log 2>&1 & echo $$! > .local/worker.pid
	@echo "Dashboard: http://127.0.0.1:$(PORT)"
	@echo "Artifacts: http://127.0.0.1:$(PORT)/v2/artifacts"
	@echo "Commands:  export PREFECT_API_URL=$(PREFECT_API_URL)  (in each shell whose runs it shall show)"
	@echo "Logs:      .local/"
	@echo "make down ends the server and the worker; nothing is scheduled without them."

down:  ## end what make up started
	@for name in worker server; do \
		test -f .local/$$name.pid || continue; \
		kill $$(cat .local/$$name.pid) && while kill -0 $$(cat .local/$$name.pid); do sleep 0.2; done; \
		rm .local/$$name.pid; \
	done 2> /dev/null

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache
