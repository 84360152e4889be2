# mull's two commands are `make run` and `make test`; the rest is for those who work on it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
PROMPT ?= What is 347 + 685?

.PHONY: run test test-peers check check-native clean

run: $(VENV)/installed
	@$(BIN)/llm run pocket "$(PROMPT)"

test: $(VENV)/tests
	$(BIN)/python -m pytest

test-peers: $(VENV)/peers
	$(BIN)/python -m pytest -m peer

check: $(VENV)/checks test
	$(BIN)/ruff check .
	$(BIN)/mypy

# The native kernels against double precision, then with sanitizers: minutes; wants -j.
check-native:
	@$(MAKE) -f tests/kernels/checks.mk

clean:
	rm -rf $(VENV) build mull.egg-info

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV); torch is large, this takes minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/tests: $(VENV)/installed
	@$(PIP) install --constraint constraints.txt --editable ".[test]"
	@touch $@

$(VENV)/peers: $(VENV)/tests
	@$(PIP) install --constraint constraints.txt --editable ".[peers]"
	@touch $@

$(VENV)/checks: $(VENV)/tests
	@$(PIP) install --constraint constraints.txt --editable ".[check]"
	@touch $@
