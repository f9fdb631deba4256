# Two commands do everything on a fresh machine: `make demo` and `make test`. Each sets itself up in .venv.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test lint clean

help:  ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(READY)  ## install the project with everything for training and development

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,langchain,serve,checkpoints,dev]'
	touch $(READY)

demo: $(READY)  ## the whole loop on the micro-world, told as it runs (about ten minutes on two cores)
	$(BIN)/python -m training.demo --out runs/demo

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(READY) lint  ## lint, types and every test
	$(BIN)/python -m pytest

clean:  ## remove what was built; runs/ stays
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
