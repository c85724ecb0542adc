# make demo, make test and make check set themselves up; a second run reinstalls nothing.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/installed
FRACRAY := $(VENV)/bin/fracray

.PHONY: demo test check chaos setup clean
demo: $(STAMP)
	$(FRACRAY) demo --out demo

test: $(STAMP)
	$(VENV)/bin/python -m pytest

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

chaos: $(STAMP)
	$(VENV)/bin/python benchmarks/chaos.py

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "fracray needs Python 3.11 to 3.13; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing fracray into $(VENV): some minutes and 7 GB the first time (torch brings its GPU libraries)."
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
