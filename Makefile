# `make demo` and `make test` work from a bare clone with Python >= 3.11: both build .venv first.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
PYTEST := $(BIN)/python -m pytest
PYTHON_LOWER ?= python3.11
LOWER_INSTALLED := .venv-lower/installed
PYTHON_VLLM ?= python3.11
VLLM_INSTALLED := .venv-vllm/installed

# Idle OpenMP threads sleep instead of spinning: on few cores spinning ones slow each other down.
export OMP_WAIT_POLICY := PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-lower test-cuda test-vllm check house format docs constraints clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: $(INSTALLED) ## create .venv with the tested versions

# The whole tool chain is pinned, so pip has nothing to search; Python compiles the few modules that are used by itself.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
	  "medr1 needs Python 3.11 or newer; name one: make PYTHON=python3.12 install")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install ## the whole pipeline on drawn phantoms, offline, into runs/demo
	$(BIN)/medr1 demo --out runs/demo

# One thread per worker: the models of the tests are too small to share a matrix product.
test: install ## unit, contract, parity and invariant tests and doctests
	OMP_NUM_THREADS=1 $(PYTEST) -m "not slow" --numprocesses logical --maxprocesses 8

test-slow: install ## the tests that train: minutes each
	OMP_NUM_THREADS=1 $(PYTEST) tests -m slow --numprocesses logical --maxprocesses 8

# The lowest versions that pyproject.toml declares, on the lowest Python.
$(LOWER_INSTALLED): pyproject.toml constraints.txt .ci/lower_bounds.py
	$(PYTHON_LOWER) -m venv --clear .venv-lower
	.venv-lower/bin/python .ci/lower_bounds.py > .venv-lower/constraints.txt
	.venv-lower/bin/python -m pip install --quiet --no-compile --constraint .venv-lower/constraints.txt \
	  --editable '.[dicom,train,volumes]' hypothesis pytest pytest-timeout pytest-xdist
	@touch $@

# Left out: what tests our own rules at length, counts the products of a newer transformers, or needs its image classes.
test-lower: $(LOWER_INSTALLED) ## the fast tests on the lowest versions declared: Python 3.11
	OMP_NUM_THREADS=1 .venv-lower/bin/python -m pytest -m "not slow" --numprocesses logical --maxprocesses 8 \
	  tests/unit tests/e2e tests/parity tests/contract/test_corruptions_contract.py tests/contract/test_sources_contract.py \
	  --ignore tests/unit/test_benchmarks_gpu.py \
	  --deselect tests/parity/test_processor_parity.py::test_stock_classes_open_the_warm_start

# One process: a GPU is not shared out among workers.
test-cuda: install ## the tests on a GPU: minutes
	OMP_NUM_THREADS=1 $(PYTEST) -m cuda tests/cuda

# vLLM pins other versions of much, so it has an environment of its own, in which nothing is left to resolve.
$(VLLM_INSTALLED): pyproject.toml constraints-vllm.txt tests/vllm_engine/torchvision_on_cpu.py
	$(PYTHON_VLLM) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --no-deps --requirement constraints-vllm.txt
	.venv-vllm/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	.venv-vllm/bin/python tests/vllm_engine/torchvision_on_cpu.py
	@touch $@

# With one thread vLLM's processes leave the other cores to the tests beside them.
test-vllm: $(VLLM_INSTALLED) ## the tests on vLLM, on a processor: Python 3.11 and gcc
	OMP_NUM_THREADS=1 .venv-vllm/bin/python -m pytest -m vllm tests/vllm_engine

check: install ## lint, format, types, import layers, generated docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	@if [ -f docs/cli.md ]; then $(BIN)/python -m medr1.cli.docs | diff -u docs/cli.md - || \
	  { echo 'docs/cli.md is out of date; run: make docs' >&2; exit 1; }; fi
	@$(BIN)/python -m medr1.results.schemas build/schemas && diff -ru docs/schemas build/schemas || \
	  { echo 'docs/schemas is out of date; run: make docs' >&2; exit 1; }

house: ## lines, files, readers, parameters, loose dictionaries: by the syntax trees
	@$(PYTHON) .ci/house.py

format: install ## sort imports, mend what ruff can mend, format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: install ## write docs/cli.md from the commands' own help, and docs/schemas from the types of results
	$(BIN)/python -m medr1.cli.docs > docs/cli.md.new
	mv docs/cli.md.new docs/cli.md
	$(BIN)/python -m medr1.results.schemas docs/schemas

# PyTorch keeps its pin: it is the one package whose version decides which builds a machine can take; move it by hand.
constraints: ## pin the newest versions that pyproject.toml allows
	rm -rf build/pins && $(PYTHON) -m venv build/pins
	build/pins/bin/python -m pip install --quiet --editable '.[dev]' "$$(grep '^torch==' constraints.txt)"
	grep '^#' constraints.txt > build/constraints.txt
	build/pins/bin/python -m pip freeze --all --exclude pip --exclude-editable \
	  | sed 's/+.*//' | grep -viE '^(nvidia|cuda|triton)' | LC_ALL=C sort -f >> build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/pins

clean: ## remove what the other targets made, except runs/
	rm -rf .venv .venv-lower .venv-vllm build .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
