# Two commands: `make report` and `make test`. Both set up .venv first when it is missing or stale.
PYTHON ?= python3
BIN := .venv/bin
export NO_ALBUMENTATIONS_UPDATE := 1
# Threads that wait for each other spin briefly: without it small networks train half as fast,
# with as much as is usual any training slows several times beside other work on two cores.
export GOMP_SPINCOUNT := 1000
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: report test lint unit notebooks figures clean help

help:
	@echo "make report   run the notebooks on the drawn cars, draw the figures, make report.pdf; where"
	@echo "              CARLIB_DATA names photographs, copies of the notebooks are run in runs/"
	@echo "make test     lint, unit and fault tests, and the notebooks through nbval"
	@echo "make clean    remove the environment and everything that can be made again"

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "carlib needs Python 3.11 or newer; call: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv \
	  || { echo "cannot make .venv; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --requirement requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

report: .venv/ready
	$(BIN)/python tools/notebooks.py run
	$(BIN)/carlib report

test: lint unit notebooks

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# A process per core and one thread in each: toy networks gain nothing from a second thread.
unit: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest tests --numprocesses=auto --dist=worksteal

# `lax`: only cells tagged nbval-check-output are compared; every cell must run without error.
notebooks: .venv/ready
	$(BIN)/pytest -p no:cacheprovider --nbval-lax --nbval-current-env --nbval-cell-timeout=1800 notebooks

clean:
	rm -rf .venv build runs *.egg-info .pytest_cache .ruff_cache .hypothesis
