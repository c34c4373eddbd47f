# Two commands set up everything: `make demo` and `make test`.
# Needs Python >= 3.11 (with venv), make and git; all else is fetched into .venv.

PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/python -m uv
INSTALL := $(UV) pip install --quiet --python $(BIN)/python --constraint constraints.txt
QT_PACKAGES := libgl1 libegl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0 fonts-dejavu-core

DEFAULT := not long and not bench

.PHONY: help demo test test-long test-nojit test-bounds check format bench dashboard pins clean

help:  ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

demo: .venv/.demo  ## 20 s of a simulated live experiment, no hardware, no screen
	$(BIN)/livespt demo

# First the compiler in two processes, then the tests in two, then those that measure real time.
test: .venv/.dev qt-libraries  ## The default tests (under 10 minutes on 2 cores)
	$(BIN)/python tests/warm_kernels.py
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m '$(DEFAULT) and not alone'
	$(BIN)/python -m pytest -m '$(DEFAULT) and alone'

test-long: .venv/.dev qt-libraries  ## Minutes of statistics and soak
	$(BIN)/python -m pytest -m long

test-nojit: .venv/.dev  ## The kernels' tests as plain Python
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest tests/oracle

test-bounds: .venv/.dev  ## The localizer's tests with every index checked (a cache of its own)
	NUMBA_BOUNDSCHECK=1 $(BIN)/python -m pytest tests/oracle tests/unit/test_localize.py \
	  tests/faults/test_bad_pixels.py tests/statistics/test_fit_precision.py

check: .venv/.dev  ## Lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: .venv/.dev  ## Put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.bench  ## Speed and precision on this machine, the peers beside us; tables in bench/
	.venv/bench/bin/python -m pytest tests/bench -m bench -s

dashboard: .venv/.dev qt-libraries  ## The window, on a running stream
	$(BIN)/livespt dashboard

pins: .venv/bin/python  ## Resolve constraints.txt anew, for all platforms
	$(UV) pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate \
	  --no-header --upgrade pyproject.toml --output-file constraints.txt

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "livespt needs Python 3.11 to 3.13: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv .venv \
	  || { rm -rf .venv; echo "Python's venv is missing: install it (Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --disable-pip-version-check uv \
	  || { rm -rf .venv; echo "uv could not be installed: is a package index reachable?"; exit 1; }

.venv/.demo: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[dev]'
	@touch $@ .venv/.demo

# The peers bring some sixty packages (another Qt, pandas): they get an environment of their own.
# So does btrack: the wheel that loads without GCC 13's C++ library wants another pydantic.
.venv/.bench: .venv/.dev pyproject.toml constraints.txt
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv/bench
	$(UV) pip install --quiet --python .venv/bench/bin/python --constraint constraints.txt \
	  --editable '.[dev,bench]'
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv/btrack
	$(UV) pip install --quiet --python .venv/btrack/bin/python 'btrack==0.6.5' 'pydantic==1.10.24'
	@touch $@

.PHONY: qt-libraries
qt-libraries: .venv/.dev
	@QT_QPA_PLATFORM=offscreen $(BIN)/python -c 'from PySide6.QtWidgets import QApplication as A; A([])' 2>/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	       && apt-get update -qq && apt-get install -y -qq $(QT_PACKAGES) >/dev/null; } \
	  || { echo "Qt's offscreen platform needs: apt-get install $(QT_PACKAGES)"; exit 1; }

clean:  ## Remove the environment and all caches
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache build dist
