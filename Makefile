# Five verbs. `make demo ONCE=1` exits after the table; plain `make demo` keeps serving.
PYTHON ?= python3
# Two files of tests at a time, in the order of tests/conftest.py; `make test PYTEST_ARGS='-x
# tests/registry'` runs some, one by one.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check fix release

demo: .venv/.installed
	$(BIN)/hatstand demo $(if $(ONCE),--once)

test: .venv/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

release: check test
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist clients
	$(BIN)/python .ci/audit dist

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[server,training]'
	touch $@

.venv/.installed-dev: .venv/.installed
	$(INSTALL) --group dev
	touch $@
