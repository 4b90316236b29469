# The front door. `make help` lists what there is; every target first sets up what is missing, once.
SHELL := /bin/bash
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
PORT ?= 5000
BIN := .venv/bin
READY := .venv/.ready
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint ui slurm-test bench

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## .venv with the locked packages and the embedded models

# torch goes first and alone: a range asked for by another package could take another build of it.
$(READY): requirements.txt requirements-embedded.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fewtable needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "setting up .venv (once, some minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.txt)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-embedded.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(READY)  ## results/demo.csv and results/report.html: real tweets, small models, minutes on two cores
	@$(SNAKEMAKE) results/demo.csv results/report.html
	@echo; cat results/demo.md; echo
	@echo "table   results/demo.{csv,md,tex,html}"
	@echo "report  results/report.html (open it in a browser)"
	@echo "runs    make ui"

test: $(READY)  ## all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(READY)  ## ruff, types, snakefmt, snakemake --lint
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/snakefmt --check Snakefile workflow/rules
	@$(BIN)/snakemake --lint

ui: $(READY)  ## the MLflow UI on 127.0.0.1 (PORT=5000)
	@$(BIN)/fewtable ui --port $(PORT)

slurm-test: $(READY)  ## bring a SLURM cluster up on this machine, run the workflow on it, take it down
	@$(BIN)/python -m pytest tests/slurm -m slurm $(ARGS)

bench: $(READY)  ## the speed figures, as ratios against what one would run instead
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done
