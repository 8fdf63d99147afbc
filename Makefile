# Everything below sets up what it needs in .venv; nothing but Python 3.11 or newer has to be there.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench backtest dashboards pictures prices readme lock clean

help:  ## Say what can be made
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/runtime: deploy/requirements.txt pyproject.toml
	@echo "==> private environment in .venv, with the locked dependencies of the program"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; say which with: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements.txt
	@touch $@

.venv/dev: .venv/runtime tests/requirements.txt
	@echo "==> locked tools for tests and lint into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: .venv/runtime  ## Run against a simulated organisation, without any key
	@echo "==> a simulated organisation, and the exporter reading it (Ctrl-C ends it)"
	@$(BIN)/python -m exporter demo

test: .venv/dev  ## Run all tests
	@echo "==> tests (those that need a Prometheus binary are skipped, with the reason, where there is none)"
	@$(BIN)/python -m pytest --numprocesses 3

lint: .venv/dev  ## Check style, types and the import contracts
	@echo "==> ruff" && $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "==> mypy" && $(BIN)/mypy
	@echo "==> import contracts" && $(BIN)/lint-imports --no-cache

bench: .venv/dev  ## Measure; prints medians, never fails
	@for name in start scrape poll stall decode backfill designs; do echo "==> $$name"; $(BIN)/python -m tests.benchmarks.bench_$$name; done

backtest: .venv/dev  ## Replay the alert rules over five simulated weeks; prints the README's table
	@$(BIN)/python -m tests.backtest

prices:  ## Compare the list prices with those of a public package
	@test -x .cache/prices/bin/python || $(PYTHON) -m venv .cache/prices
	@.cache/prices/bin/python -m pip install --quiet --disable-pip-version-check --upgrade genai-prices
	@.cache/prices/bin/python -m tests.compare_prices

dashboards: .venv/dev  ## Write the dashboards' JSON anew
	@$(BIN)/python -m grafana

pictures: .venv/dev  ## Draw the README's pictures of the dashboards anew (needs what .ci/rendering installs)
	@RENDERING_DIR=.cache/drawn $(BIN)/python -m pytest -q tests/integration/test_rendering.py -k is_drawn
	@test -x .cache/pictures/bin/python || $(PYTHON) -m venv .cache/pictures
	@.cache/pictures/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pillow
	@.cache/pictures/bin/python -m tests.shrink_pictures .cache/drawn grafana/pictures
	@$(BIN)/python -m tests.rendering.landing deploy/pictures/landing.png --until table

readme: .venv/dev  ## Write the README's tables and the chart's schema anew
	@$(BIN)/python -m tests.readme
	@$(BIN)/python -m tests.helm

lock: .venv/dev  ## Resolve the dependencies anew into the hashed lock files
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --custom-compile-command "make lock" pyproject.toml -o deploy/requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --custom-compile-command "make lock" --group dev pyproject.toml -o tests/requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --custom-compile-command "make lock" --group build \
	    --constraints tests/requirements.txt -o deploy/build-requirements.txt

clean:  ## Remove the private environment and all caches
	rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
