# `make demo` and `make test` each set up .venv by themselves; a second call installs nothing.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Real data for the tests that need it; those tests skip where it is absent.
export MTPKDOT_TEST_DATA ?= $(wildcard ../shared/data)
# The models of demo and tests are tiny: threads cost more than they give, and far more beside other work.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick test-min test-opencv wheel bench notebooks lint types format clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

demo: $(VENV)/.installed ## The first run: from generated raw video to a report, in three minutes
	$(BIN)/mtpkdot demo

test: lint types ## Lint, type-check and test
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-quick: $(VENV)/.installed-dev ## Test the parts, without the tests that run the whole program: under two minutes
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m 'not slow and not slurm'

# Of the oldest packages with the newest of what those need: warnings between these are not ours.
test-min: .venv-min/.installed ## Test the parts with the lowest version of every package, in .venv-min
	.venv-min/bin/python -m pytest --numprocesses 2 --dist worksteal -W default -m 'not slow and not slurm'

# OpenCV 5 has no cascades; everything else works with it.
test-opencv: $(VENV)/.installed-dev ## Test the data layer with OpenCV 5, in build/opencv5
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/opencv5 'opencv-python-headless>=5,<6'
	PYTHONPATH=$(CURDIR)/build/opencv5 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m 'not slow and not slurm' tests/data

wheel: $(VENV)/bin/python ## Build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

lint: $(VENV)/.installed-dev ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## Check types
	$(BIN)/mypy

bench: $(VENV)/.installed-dev ## Measure speed; figures of one run are to be compared with each other only
	$(BIN)/python -m pytest -q -W ignore -p no:cacheprovider --timeout 0 -o python_functions='bench_*' --benchmark-columns=median,min,rounds $(wildcard tests/benchmarks/bench_*.py)

# In a folder of its own, so that nobody's runs are taken for what it shows.
notebooks: $(VENV)/.installed-dev ## Run the notebooks and store them with their outputs
	rm -rf build/notebooks && mkdir -p build/notebooks && cp notebooks/*.ipynb build/notebooks
	cd build/notebooks && for each in *.ipynb; do ../../$(BIN)/jupyter execute --inplace $$each || exit 1; done
	cp build/notebooks/*.ipynb notebooks

format: $(VENV)/.installed-dev ## Rewrite the sources in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the virtual environment and caches, never runs or data
	rm -rf $(VENV) .venv-min .mypy_cache .ruff_cache .pytest_cache *.egg-info build dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The stamps are newer than pyproject.toml exactly when everything in it is installed.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.installed

.venv-min/.installed: pyproject.toml tests/minimum.py
	$(PYTHON) -m venv .venv-min
	$(PYTHON) tests/minimum.py > .venv-min/constraints.txt
	.venv-min/bin/python -m pip install --quiet --disable-pip-version-check --constraint .venv-min/constraints.txt --editable '.[dev]'
	touch $@
