# Each target makes the environment first if it is not there.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: test demo demo-sts tables lint clean

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

demo: .venv/ready
	$(BIN)/python scripts/demo.py agedb $(FLAGS)

demo-sts: .venv/ready
	$(BIN)/python scripts/demo.py sts-b $(FLAGS)

tables: .venv/ready
	$(BIN)/python scripts/tables.py

lint: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis checkpoint

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Making .venv: about 5 GB to fetch, a few minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@
