# The front door. Each target does its own set-up; none needs another to have been run before.
#
#   make demo          the whole mesh on this machine: lab, mesh, sample, metrics   (KEEP=1 leaves it running)
#   make test          lint, types, import contracts, unit and end-to-end tests
#   make lint          the first three of those
#   make test-cluster  the end-to-end tests on a real Kubernetes of three nodes, made here (root, Go)
#   make soak          five minutes of traffic over a bad wire: no leak, every request accounted for
#   make fuzz          the parsers against inputs that seek new paths in them, five minutes each
#   make bench         the sidecar beside Envoy and HAProxy, in one run
#   make clean         remove what the others made here

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KEEP ?=

# Compiled wheels are rebuilt when the metadata changes, and only then.
PIP_INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat

.PHONY: help demo test lint wheels unit e2e test-cluster soak fuzz bench clean

help:
	@sed -n '3,11s/^# *//p' Makefile

$(VENV)/.created:
	@.ci/debian build
	@$(PYTHON) -c 'import sys; sys.exit(f"Tulle needs Python 3.11 or newer; $$(sys.executable) is {sys.version.split()[0]}. Try: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.all: $(VENV)/.created setup.cfg pyproject.toml
	@echo "Installing Tulle and what it needs from PyPI into $(VENV) ..."
	@$(PIP_INSTALL) --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.all
	@echo "Installing what the tests need from PyPI into $(VENV) ..."
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.all
	@echo "Installing the rivals from PyPI into $(VENV) ..."
	@$(PIP_INSTALL) --editable '.[bench]'
	@touch $@

# The sidecar as its image has it: its hot modules compiled (setup.py), and what it needs. Beside the checkout's own, and
# built as the image builds it, in an environment that has nothing yet.
$(VENV)/.compiled: $(VENV)/.all setup.py $(wildcard proxy/*.py proxy/*/*.py contract/*.py)
	@echo "Compiling the sidecar's hot modules ..."
	@rm -rf $(VENV)/compiled $(VENV)/empty $(VENV)/wheels build
	@$(PYTHON) -m venv $(VENV)/empty
	@TULLE_COMPILE=1 $(VENV)/empty/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(VENV)/wheels .
	@$(PIP_INSTALL) --target $(VENV)/compiled "$$(echo $(VENV)/wheels/tulle-*.whl)[proxy]"
	@rm -rf $(VENV)/empty build
	@touch $@

demo: $(VENV)/.all
	@.ci/debian run
	@KEEP=$(KEEP) samples/demo.sh

lint: $(VENV)/.dev
	@$(BIN)/tox -q -e lint,types,imports

# Each image's wheel, built and installed where nothing else is.
wheels: $(VENV)/.dev $(VENV)/.compiled
	@.ci/debian build
	@$(BIN)/tox -q -e wheels

unit: $(VENV)/.dev
	@.ci/debian run
	@$(BIN)/tox -q -e unit

e2e: $(VENV)/.dev
	@.ci/debian run test
	@$(BIN)/tox -q -e e2e

# ARGS are pytest's: make test-cluster ARGS=tests/e2e/cluster
test-cluster: $(VENV)/.dev
	@$(BIN)/python -m tests.cluster test $(ARGS)

test: $(VENV)/.dev $(VENV)/.compiled
	@.ci/debian run test
	@$(BIN)/tox -q -e lint,types,imports,unit,wheels,compiled,e2e

# TULLE_SOAK_WORKERS=2 is for sidecars of several processes, TULLE_SOAK_CODE=.venv/compiled for compiled ones.
soak: $(VENV)/.dev $(if $(filter $(VENV)/compiled,$(TULLE_SOAK_CODE)),$(VENV)/.compiled)
	@.ci/debian run test
	@TULLE_SOAK_S=$${TULLE_SOAK_S:-300} $(BIN)/tox -q -e soak

# What it learns stays in .fuzz; an input that breaks a promise belongs into tests/fuzz/corpus.
fuzz: $(VENV)/.dev
	@for parser in tests/fuzz/corpus/*; do \
	  $(BIN)/python tests/fuzz "$${parser##*/}" -max_total_time=$${TULLE_FUZZ_S:-300} -max_len=4096; \
	done

bench: $(VENV)/.bench $(VENV)/.compiled
	@.ci/debian build run bench
	@$(BIN)/python -m bench $(ARGS)

clean:
	@if [ -x $(BIN)/tulle ] && [ "$$(id -u)" = 0 ]; then $(BIN)/tulle lab down --all 2>/dev/null || true; fi
	@rm -rf $(VENV) build dist .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
