# Two commands: `make report` and `make test`. Both set up .venv first when it is missing or stale.
PYTHON ?= python3
NEWEST ?= python3.13
BIN := .venv/bin
export NO_ALBUMENTATIONS_UPDATE := 1
# Threads that wait for each other spin briefly: without it small networks train half as fast,
# with as much as is usual any training slows several times beside other work on two cores.
export GOMP_SPINCOUNT := 1000
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: report site test test-paths test-colab test-versions test-claims lint unit notebooks clean help

help:
	@echo "make report   run the notebooks on the drawn cars, draw the figures, make report.pdf; where"
	@echo "              CARLIB_DATA names photographs, copies of the notebooks are run in runs/"
	@echo "make site     README, notebooks, model card and report as web pages, in build/site"
	@echo "make test     lint, unit and fault tests, and the notebooks through nbval"
	@echo "make test-colab  the notebooks as Colab runs them, on a machine rebuilt from its pins"
	@echo "make test-paths  the notebooks on other data: few photos, few classes, other layouts, and the"
	@echo "              photographs that CARLIB_PHOTOS names, if it does"
	@echo "make test-versions  the unit tests with the lowest versions that pyproject.toml allows, and"
	@echo "              with the newest on Python 3.13 (make NEWEST=/path/to/python3.13)"
	@echo "make test-claims  what the notebooks assert, with other seeds and numbers of threads"
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

site: .venv/ready
	$(BIN)/python tools/pages.py

test: lint unit notebooks

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# A process per core and one thread in each: toy networks gain nothing from a second thread.
unit: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest tests --numprocesses=auto --dist=worksteal

# Not part of `make test`: each makes an environment of its own.
test-versions: .venv/ready
	$(BIN)/python tools/versions.py lowest $(PYTHON)
	$(BIN)/python tools/versions.py newest $(NEWEST)

# `lax`: only cells tagged nbval-check-output are compared; every cell must run without error.
notebooks: .venv/ready
	$(BIN)/pytest -p no:cacheprovider --nbval-lax --nbval-current-env --nbval-cell-timeout=1800 notebooks

# Colab rebuilt from the pins of its image: Python 3.13, a /content to write in, ten minutes.
test-colab: .venv/ready
	$(BIN)/python tools/colab.py

# Smallest budgets: that every cell has something to say about data that lack what drawn cars have.
test-paths: .venv/ready
	CARLIB_PATHS=all OMP_NUM_THREADS=1 $(BIN)/pytest tests/test_own_photos.py tests/test_jupyterlab.py \
	  --numprocesses=auto --dist=worksteal --durations=0

# What holds for one training on drawn cars should hold for others; an hour.
test-claims: .venv/ready
	$(BIN)/python tools/assertions.py

clean:
	rm -rf .venv build runs *.egg-info .pytest_cache .ruff_cache .hypothesis
