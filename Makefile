# mull's two commands are `make run` and `make test`; the rest is for those who work on it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
PROMPT ?= What is 347 + 685?

# The packages of one extra, without building the kernels again.
extra = $(BIN)/python -c 'import sys, tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]], sep="\n")' $(1) \
	| $(PIP) install --constraint constraints.txt --requirement /dev/stdin

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
	@$(call extra,test)
	@touch $@

$(VENV)/peers: $(VENV)/tests
	@$(call extra,peers)
	@touch $@

$(VENV)/checks: $(VENV)/tests
	@$(call extra,check)
	@touch $@
