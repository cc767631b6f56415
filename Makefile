# The two commands: `make app` runs the app on its own library, `make test` runs every test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501

.PHONY: app test check browser docs clean

app: $(VENV)/.app-installed
	$(BIN)/kb serve --port $(PORT)

# One thread a worker: small tensors gain nothing from a second, and wait for it where the cores are busy.
test: check browser
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal

check: $(VENV)/.test-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/.app-installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.test-installed: requirements-test.txt $(VENV)/.app-installed
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-test.txt
	touch $@

# Chromium and a Chinese font come from Debian; without the right to install them the tests say what is missing.
browser: $(VENV)/.test-installed
	sh tests/web/install_browser.sh

docs: $(VENV)/.test-installed
	$(BIN)/python docs/build.py

clean:
	rm -rf $(VENV) build *.egg-info
