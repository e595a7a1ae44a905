# The two commands: `make demo` and `make test`. Both set everything up first.
.DEFAULT_GOAL := help
.PHONY: help setup demo nation test test-fast compile check lint types contracts lock clean

# the newest Python from 3.11 on that is here
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/.ready  ## make .venv from the lock (idempotent)

# bytecode is compiled here: where PYTHONDONTWRITEBYTECODE is set (containers, CI) every process would compile torch anew
.venv/.ready: locks/requirements.txt locks/uv.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "uvmap needs Python 3.11, 3.12 or 3.13 on the PATH"; exit 1; }
	@test -x $(BIN)/python || { echo "making .venv with $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r locks/uv.txt
	@$(BIN)/uv pip sync -q --compile-bytecode --python $(BIN)/python --require-hashes locks/requirements.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-build-isolation --no-deps -e .
	@touch .venv/.ready
	@echo "environment ready: $(BIN)/uvmap --help"

demo: setup  ## build, train on, map and assess the demo city (about 4 minutes on two quiet cores)
	@$(BIN)/uvmap demo

nation: setup  ## the nation in miniature: 342 synthetic cities by uv-map/china, assessed (45 minutes on two quiet cores)
	@OMP_NUM_THREADS=1 $(BIN)/uvmap nation

# on two cores; the third works while the tests of the services wait
# a worker that dies ends the run and is named: with a replacement pytest-xdist waits for ever for its last tests
# tests/conftest.py orders the groups by their cost, which pytest-xdist would undo
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder --max-worker-restart=0 --durations=15 -q

test: compile  ## all tests
	$(PYTEST)

test-fast: compile  ## all tests but the slow ones
	$(PYTEST) -m "not slow"

compile: setup
	@$(BIN)/python -m compileall -q -j 2 regions models pipeline accuracy flows

check: lint types contracts  ## lint, types, import contracts

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

contracts: setup
	$(BIN)/lint-imports

lock: setup  ## resolve the dependencies anew
	$(BIN)/uv pip compile pyproject.toml --group dev --group weights --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --upgrade -q -o locks/requirements.txt

clean:  ## remove what the commands made, but the environment
	rm -rf out runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
