# make demo: a whole campaign on this machine. make test: every test. Both install into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test crash bench bench-full lint format ui clean

help:  ## Lists the commands.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The folders are made only when the dependency lists changed since the last install.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	touch $@

demo: $(VENV)/installed  ## Renders the demo's clips and teachers, runs four rounds, prints the table of rounds.
	$(BIN)/t2t demo
	$(BIN)/t2t run demo

crash: $(VENV)/installed-test  ## Kills campaigns more than a hundred times and compares what they come to; about 15 minutes.
	T2T_CRASH_KILLS=120 $(BIN)/python -m pytest -q -rs tests/crash

test: $(VENV)/installed-test  ## Runs every test.
	$(BIN)/python -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder

bench: $(VENV)/installed-bench  ## Measures t2t against what one would use instead; fails when a ratio fell by a quarter.
	$(BIN)/python -m benchmarks

bench-full: $(VENV)/installed-bench  ## The same at all sizes, and writes docs/performance.md; about an hour.
	$(BIN)/python -m benchmarks --full --save
	$(BIN)/python -m benchmarks --save

lint: $(VENV)/installed-test  ## Linter, formatter check and type checker.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-test  ## Formats the code and mends what the linter can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: $(VENV)/installed  ## Opens the MLflow UI on what has run here.
	$(BIN)/t2t ui

clean:  ## Removes the environment and everything that runs have made.
	rm -rf $(VENV) work data
