# make demo · make test: all that a fresh machine with Python 3.11, make and gcc needs.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: setup demo test test-all matrix schemas lint clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable . --group dev
	touch $@

demo: setup
	$(BIN)/edgedl run examples/digits.yaml

test: setup
	$(BIN)/pytest -n 2 --dist loadgroup -m "not slow"

test-all: setup
	$(BIN)/pytest -n 2 --dist loadgroup

matrix: setup
	$(BIN)/python benchmarks/support_matrix.py

schemas: setup
	$(BIN)/python -c "import json; from edgedl.core.artifacts import LatencyReport, json_schema; print(json.dumps(json_schema(LatencyReport), indent=1))" > docs/schemas/latency-report.json

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

clean:
	rm -rf .venv build dist *.egg-info src/*.egg-info
