BIN := .venv/bin
WORKERS ?= auto
# One thread a process: the test processes share the cores among themselves.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test setup lint format ratchet slow bench bench-mt10 benchmarks-page clean

help: ## show this
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 17

demo: setup ## record, train, evaluate and report on four tasks, in minutes
	@$(BIN)/kinema demo

test: lint ## all checks: style, types, arrows, tests
	@$(TEST) -n $(WORKERS)

setup: ## make .venv with everything kinema needs; quick when nothing changed
	@sh tools/setup.sh

lint: setup ## ruff, mypy and import-linter
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "not formatted: make format"; exit 1; }
	@$(BIN)/mypy
	@out=$$($(BIN)/lint-imports --no-cache --no-logo 2>&1) || { echo "$$out"; exit 1; }

format: setup ## format the code and sort its imports
	@$(BIN)/ruff check --quiet --fix .; $(BIN)/ruff format .

ratchet: setup ## write down what is longer than aimed at (tests/house_exceptions.json)
	@$(BIN)/python tools/ratchet.py

slow: setup ## the tests that take minutes
	@$(TEST) -m slow

bench: setup ## speed and memory: a quarter of an hour on an idle machine
	@$(BIN)/python benchmarks/speed.py

bench-mt10: setup ## the Meta-World MT10 benchmark with its ablations: a day on two cores
	@$(BIN)/python benchmarks/metaworld_mt10.py

benchmarks-page: setup ## write docs/benchmarks.md and the tables of docs/heads.md and docs/policies.md
	@$(BIN)/python tools/benchmarks_page.py

clean: ## remove caches, not data or runs
	@rm -rf build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find kinema tests -name __pycache__ -prune -exec rm -rf {} +
