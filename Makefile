# Every verb sets up what it needs. `make` alone prints this help.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SDKS := .sdks/.installed
PYTHON ?= $(shell sh scripts/find-python 2>/dev/null)
QUESTION ?= Why is the sky blue? Answer in one sentence.

.DEFAULT_GOAL := help
.PHONY: help install sdks demo demo-dungeon test lint types generate bench bench-operator hardware lock images e2e

help: ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with everything in it, from pinned and hashed requirements

sdks: $(SDKS) ## install the SDKs that the tests run with, and a Node for those in JavaScript

demo: $(STAMP) ## fetch a small real model, play it on this machine and ask it a question
	@$(BIN)/rhapsode play examples/smollm.yaml --port 0 --admin-port 0 --ask "$(QUESTION)"

demo-dungeon: $(STAMP) ## play three turns of examples/dungeon-master: told live, checked, and kept in a journal
	@$(BIN)/python examples/dungeon-master/demo.py

test: $(STAMP) $(SDKS) ## run all tests, or ARGS=tests/cli (the first time fetches the model: 93 MB, and the SDKs)
	@echo "· running the tests"
	@KUBEBUILDER_ASSETS="$$(sh scripts/kubernetes-tools)" $(BIN)/python -m pytest $(or $(ARGS),--numprocesses auto --dist loadfile)

lint: $(STAMP) ## check style and layers
	@echo "· checking style and layers"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(STAMP) ## check types, tests included
	@echo "· checking types"
	@$(BIN)/mypy

generate: $(STAMP) ## write again what is made from the code: pages of docs/, crds/, deploy/, charts/
	@echo "· generating"
	@$(BIN)/python scripts/generate.py

bench: $(STAMP) ## measure speed and memory against the peers that are installed; prints the table
	@$(BIN)/python -m bench $(ARGS)

bench-operator: $(STAMP) ## measure the operator on a real API server; prints the table
	@KUBEBUILDER_ASSETS="$$(sh scripts/kubernetes-tools)" $(BIN)/python -m bench.operator $(ARGS)

hardware: $(STAMP) ## measure on this machine's NVIDIA GPU what the worker tells of VRAM; reports to docs/hardware/
	@$(BIN)/python -m bench.hardware $(ARGS)

images: ## build the container images, TAG=... or the project's version; prints their sizes
	@sh scripts/build-images $(TAG)

e2e: $(STAMP) ## run the end-to-end scenarios on a kind cluster that it makes: all, or ARGS=e2e/rollout
	@sh scripts/e2e $(BIN)/python $(ARGS)

lock: $(STAMP) ## pin the requirement files again, from pyproject.toml
	@sh scripts/lock $(BIN)/uv

$(STAMP): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { sh scripts/find-python >/dev/null; exit 1; }
	@echo "· making $(VENV) with $$($(PYTHON) --version)"
	@$(BIN)/python -c '' 2>/dev/null || rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@echo "· installing $$(grep -c '^[a-z0-9]' requirements/dev.txt) pinned packages (a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
	@echo "· ready: $(BIN)/rhapsode --help"

$(SDKS): $(wildcard requirements/sdks-*.txt) $(wildcard tests/sdks/node/*/package-lock.json) scripts/install-sdks | $(STAMP)
	@echo "· installing the SDKs that the tests run with: 4 Python environments, 2 of Node (a minute or two)"
	@sh scripts/install-sdks
	@touch $(SDKS)
