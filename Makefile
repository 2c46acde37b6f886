# The front door. Each target does its own set-up; none needs another to have been run before.
#
#   make demo          the whole mesh on this machine: lab, mesh, sample, metrics   (KEEP=1 leaves it running)
#   make test          lint, types, import contracts, unit and end-to-end tests
#   make lint          the first three of those
#   make test-cluster  the end-to-end tests on a real Kubernetes of three nodes, made here (root, Go)
#   make soak          five minutes of traffic over a bad wire: no leak, every request accounted for
#   make fuzz          the parsers against inputs that seek new paths in them, five minutes each
#   make bench         the sidecar beside Envoy and HAProxy, in one run
#   make locks         pin what setup.cfg asks for, by hashes; make sbom lists what is installed
#   make clean         remove what the others made here

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KEEP ?=

# All that pip takes from an index is known by its hash, what builds it too (manifests/locks, made by `make locks`).
LOCKS := manifests/locks
PIP_QUIET := --quiet --disable-pip-version-check --no-deps
LOCKED := $(BIN)/pip install $(PIP_QUIET) --no-build-isolation --require-hashes

.PHONY: help demo test lint wheels unit e2e test-cluster soak fuzz bench locks sbom clean

help:
	@sed -n '3,12s/^# *//p' Makefile

$(VENV)/.created:
	@.ci/debian build
	@$(PYTHON) -c 'import sys; sys.exit(f"Tulle needs Python 3.11 or newer; $$(sys.executable) is {sys.version.split()[0]}. Try: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The checkout itself is rebuilt when its metadata changes, and only then.
$(VENV)/.all: $(VENV)/.created setup.cfg pyproject.toml $(LOCKS)/build.txt $(LOCKS)/all.txt
	@echo "Installing Tulle and what it needs from PyPI into $(VENV) ..."
	@$(LOCKED) --requirement $(LOCKS)/build.txt
	@$(LOCKED) --requirement $(LOCKS)/all.txt
	@$(BIN)/pip install $(PIP_QUIET) --no-build-isolation --config-settings editable_mode=compat --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.all $(LOCKS)/dev.txt
	@echo "Installing what the tests need from PyPI into $(VENV) ..."
	@$(LOCKED) --requirement $(LOCKS)/dev.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.all $(LOCKS)/bench.txt
	@echo "Installing the rivals from PyPI into $(VENV) ..."
	@$(LOCKED) --requirement $(LOCKS)/bench.txt
	@touch $@

# The sidecar as its image has it: its hot modules compiled (setup.py), and what it needs. Beside the checkout's own, and
# built as the image builds it, in an environment that has nothing yet.
$(VENV)/.compiled: $(VENV)/.all setup.py $(wildcard proxy/*.py proxy/*/*.py contract/*.py)
	@echo "Compiling the sidecar's hot modules ..."
	@rm -rf $(VENV)/compiled $(VENV)/empty $(VENV)/wheels build
	@$(PYTHON) -m venv $(VENV)/empty
	@TULLE_COMPILE=1 $(VENV)/empty/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(VENV)/wheels .
	@$(LOCKED) --target $(VENV)/compiled --requirement $(LOCKS)/proxy.txt
	@$(BIN)/pip install $(PIP_QUIET) --target $(VENV)/compiled $(VENV)/wheels/tulle-*.whl
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

# Pins anew what setup.cfg asks for, keeping what still fits; UPGRADE=--upgrade takes the newest of all.
locks: $(VENV)/.created
	@$(PYTHON) -m venv $(VENV)/locking
	@$(VENV)/locking/bin/pip install --quiet --disable-pip-version-check 'pip-tools>=7.6,<8'
	@$(BIN)/python manifests/lock.py $(VENV)/locking/bin/pip-compile $(UPGRADE)

# What this checkout's environment consists of (CycloneDX); each image has its own list, /opt/tulle/sbom.cdx.json.
sbom: $(VENV)/.all
	@mkdir -p dist
	@$(BIN)/cyclonedx-py environment --output-reproducible --output-format JSON --output-file dist/tulle.cdx.json $(BIN)/python
	@echo "dist/tulle.cdx.json"

clean:
	@if [ -x $(BIN)/tulle ] && [ "$$(id -u)" = 0 ]; then $(BIN)/tulle lab down --all 2>/dev/null || true; fi
	@rm -rf $(VENV) build dist .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
