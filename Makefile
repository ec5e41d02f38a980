# Everything a newcomer, a developer and CI run. `make demo` and `make test` set up their own venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=
NAME   ?=

.PHONY: help demo test check bench apiserver vllm image clean
help:            ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV) (once; about three minutes)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[sim,otlp,dev]'
	@$(BIN)/python -m simulations.ahead
	@touch $@

demo: $(READY)   ## scale an emulated vLLM service live on an embedded cluster (ARGS="--seconds 30")
	@$(BIN)/warmtide demo $(ARGS)

# Three at a time on two cores: tests of processes mostly wait.
test: $(READY)   ## the whole suite (ARGS="-k name")
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

check: $(READY)  ## style, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(READY)  ## speed figures (NAME=parse for one)
	@$(BIN)/python tests/benchmarks/run.py $(NAME)

apiserver:       ## build a real Kubernetes control plane for the contract tests, once (about 12 minutes)
	@tests/controlplane/build.sh

vllm:            ## install a CPU build of vLLM for tests and the demo, once (about 5 minutes, 6 GB)
	@tests/realvllm/install.sh

image:           ## build the container image and run it as its pods do (podman, or buildah as root; a few minutes)
	@tests/image/build.sh

clean:           ## the venv and everything built
	rm -rf $(VENV) build
