# Two commands from a fresh clone: `make demo` and `make test`. Everything is installed into .venv, nothing else.

# The first interpreter that is new enough; `make PYTHON=/path/to/python ...` overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
INSTALL := $(PIP) install --quiet --disable-pip-version-check -c constraints.txt
# Without their requirements, which name torchaudio: it is not needed, and not wanted beside another torch.
DISTILLMOS := distillmos==0.9.1 xls-r-sqa==0.1.0
RUNS ?= runs

.PHONY: help demo test lint types format docs bench smoke ci constraints clean

help:
	@echo "make demo    install, train the checkerboard experiment, write the report to $(RUNS)/demo"
	@echo "make test    install the test extras and run the whole suite"
	@echo "make lint    ruff (rules and format) and mypy"
	@echo "make format  apply ruff's fixes and format"
	@echo "make docs    build the documentation into site/"
	@echo "make bench   time and memory of every loss, operator and metric beside others'"
	@echo "make smoke   every command once, at the smallest size"
	@echo "make clean   remove what was built, the virtual environment and runs excepted"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamps: pip runs again only when what is to be installed has changed.
$(VENV)/.train: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[train]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	$(INSTALL) --no-deps $(DISTILLMOS)
	@touch $@ $(VENV)/.train

demo: $(VENV)/.train
	$(BIN)/passband demo --out $(RUNS)/demo

# One thread per worker: the tensors of the tests are small, and threads of two workers would fight for the cores.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --maxprocesses 4

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(MAKE) --no-print-directory types

types: $(VENV)/.dev
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.dev
	$(BIN)/passband bench

smoke: $(VENV)/.dev
	PASSBAND=$(CURDIR)/$(BIN)/passband PYTHON=$(CURDIR)/$(BIN)/python .ci/smoke

ci:
	.ci/run

# New pins for everything but torch, from an environment that holds only what the extras bring.
# A local version label (+cpu) belongs to one machine.
constraints:
	rm -rf build/constraints && mkdir -p build
	grep '^torch==' constraints.txt > build/torch.txt
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet --disable-pip-version-check -c build/torch.txt -e '.[dev]'
	build/constraints/bin/python -m pip freeze --all --exclude passband --exclude pip | sed -E 's/\+[A-Za-z0-9.]+$$//' > constraints.txt

clean:
	rm -rf build dist site .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
