# Every word here is also what CI runs. `make demo` and `make test` need nothing but Python ≥ 3.11.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev peers check test unit demo bench golden lock wheel clean

help:
	@echo "make demo    a whole station on loopback, with invented reports"
	@echo "make test    the whole test suite, with real servers where this machine allows"
	@echo "make check   format, lint, types and import rules"
	@echo "make unit    the fast tests only"
	@echo "make bench   ratios against references (bench/)"
	@echo "make golden  rewrite the golden files, for review as a diff"
	@echo "make lock    resolve the dependencies again"

$(BIN)/python:
	@PYTHON=$(PYTHON) ./tools/make-venv $(VENV)

$(VENV)/.run: requirements.lock requirements-build.lock pyproject.toml | $(BIN)/python
	@echo "installing what the station needs…"
	@$(BIN)/pip install -q --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --require-hashes -r requirements-build.lock
	@$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@echo "installing what the demo's peers and the tests need…"
	@$(BIN)/pip install -q --require-hashes -r requirements-dev.lock
	@touch $@

setup: $(VENV)/.run

setup-dev: $(VENV)/.dev

peers:
	@./tools/install-peers

check: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup-dev
	$(BIN)/python -m pytest tests/unit tests/contract tests/docs

test: setup-dev peers
	$(BIN)/python -m pytest

demo: setup-dev
	@$(BIN)/dlx demo

bench: setup-dev
	$(BIN)/python -m bench

golden: setup-dev  ## the layout of the PDF sheet; look at the diff before you commit it
	DLX_GOLDEN=1 $(BIN)/python -m pytest -q tests/unit/test_format_pdf.py

lock:
	uv pip compile -q requirements-build.in --universal --generate-hashes --python-version 3.11 \
	  --custom-compile-command "make lock" -o requirements-build.lock
	uv pip compile -q pyproject.toml --universal --generate-hashes --python-version 3.11 \
	  --custom-compile-command "make lock" -o requirements.lock
	uv pip compile -q pyproject.toml --extra testing --group dev --universal --generate-hashes \
	  --python-version 3.11 -c requirements.lock --custom-compile-command "make lock" -o requirements-dev.lock

wheel: setup-dev
	$(BIN)/pip wheel -q --no-deps --no-build-isolation -w dist .

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
