# make help lists the targets. Everything is installed into .venv; nothing outside this folder is touched.

PYTHON ?= python3
WORKERS ?= 2
# Options for pip, for example an index that holds the CPU build of torch where the plain one would give the CUDA build
# (several GB): PIP_ARGS="--extra-index-url ADDRESS".
PIP_ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DEFAULT_SUITE := -m "not slow and not gpu and not browser"

.DEFAULT_GOAL := help
.PHONY: help install demo status check test test-slow test-browser bench clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Install into .venv (once; again only when the requirements change)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed: make install PYTHON=python3.11"; exit 2; }
	@test -x $(RUN) && $(RUN) -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(VENV) 2> /dev/null || \
	    { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(RUN) install --quiet pip; } || \
	    { echo "venv is missing: apt-get install python3-venv, then try again"; exit 2; }
	$(RUN) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e ".[cluster,dev]"
	@touch $@

demo: install ## Run the main job on the shipped generator (minutes on 2 cores); again: finds everything done
	@$(RUN) cli.py run --config configs/quickstart.toml --run demo --workers $(WORKERS)

status: install ## Show what the demo holds and what is stale
	@$(RUN) cli.py status --config configs/quickstart.toml --run demo

check: install ## ruff, mypy, import-linter
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo

test: install ## Run the default test suite on 2 processes
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 $(DEFAULT_SUITE)

test-slow: install ## Run the tests that take minutes
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -m "slow and not gpu and not browser"

test-browser: install ## Run the tests of the annotation pages in a headless Chromium (skipped where there is none)
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -m browser

bench: install ## Run the benchmarks that take minutes: tables, and one JSON line each
	@set -e; for file in benchmarks/[a-z]*.py; do name=$$(basename $$file .py); \
	    case $$name in labels|selection|fuzz_pickles|train_choices|inverse_graphics) continue;; esac; echo "== $$name"; \
	    $(RUN) -m benchmarks.$$name; done

clean: ## Remove caches (not .venv, not outputs)
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
	@find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
