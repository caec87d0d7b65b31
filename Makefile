# Each target makes the environment first if it is not there.
PYTHON ?= python3
BIN := .venv/bin
# A file's tests share a process, and with it what they trained once; each process has one thread.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: test test-fast types demo demo-sts reproduce tables verify bench lint clean

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory types
	$(PYTEST)

# Each data set's folder by itself, as each has a train.py; so has each folder behind a script.
FOLDERS = $(wildcard *-dir)
types: .venv/ready
	$(BIN)/mypy common
	MYPYPATH=scripts $(BIN)/mypy --explicit-package-bases scripts
	@for folder in $(FOLDERS); do \
	  MYPYPATH=$(CURDIR):$(CURDIR)/$$folder $(BIN)/mypy $$folder || exit 1; done

# Pins, golden numbers and small parts, without whole runs: under a minute on two cores.
test-fast: .venv/ready
	$(PYTEST) -m "not slow"

demo: .venv/ready
	$(BIN)/python scripts/demo.py agedb $(FLAGS)

demo-sts: .venv/ready
	$(BIN)/python scripts/demo.py sts-b $(FLAGS)

# Tables 2 and 3 small; STS-B on the real data, where they are.
SEEDS ?= 0
SWEEP = $(BIN)/python scripts/reproduce.py --scale small --seeds $(SEEDS) --jobs 2
PICTURE = $(BIN)/python scripts/plot.py
reproduce: .venv/ready
	@if [ -f data/sts-b/train_new.tsv ] && [ -f data/glove/glove.6B.100d.txt ]; then \
	  $(SWEEP) --table 3 && $(PICTURE) heatmap --table 3 --scale small --out results/sts-b-small.png && \
	  $(PICTURE) error --table 3 --scale small --rows '*V*' --out results/sts-b-small-error.png; \
	else echo "STS-B or GloVe is not in data/: Table 3 is left out (sts-b-dir/README.md)"; fi
	$(SWEEP) --table 2
	$(PICTURE) heatmap --table 2 --scale small --out results/agedb-standin.png
	$(PICTURE) error --table 2 --scale small --rows '*V*' --out results/agedb-standin-error.png
	$(BIN)/python scripts/tables.py

tables: .venv/ready
	$(BIN)/python scripts/tables.py
	$(BIN)/python scripts/study.py
	$(PICTURE) study --out results/study.png

# Every recorded number, verdict and plotted value from the stored predictions; no torch, under a minute.
verify: .venv/ready
	$(BIN)/python scripts/verify.py

# Ratios of what is fast to the plain way; FLAGS=--quick for a short look, FLAGS='--out results/bench.json' to record them.
bench: .venv/ready
	$(BIN)/python benchmarks/bench.py $(FLAGS)

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
