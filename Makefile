# The front door. `make demo` and `make test` do all the set-up that they need, and say what they do.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
CODE   := arbiter kube extender deviceplugin operator cli hack tests

GPU_CHECK := build/gpu-check
SITE      := build/docs-venv

# Component tests mostly wait for processes: twice as many as there are cores keep the cores busy.
COMPONENT_WORKERS := $(shell echo $$(( $$(nproc 2>/dev/null || echo 2) * 2 )))

NODES ?= 1
GPUS  ?= 12Gi
ONLY  ?=
SEED  ?=
SECONDS ?= 3600
VALUES     ?=
KUBERNETES ?=
TAG        ?=

# Container images of Python say that nothing is to be kept compiled; a test run starts hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types layers unit component cluster-tests chaos bench gpu-check dashboards dashboard-pictures soak fuzz binaries cluster-up cluster-down image manifests docs reference crds protos lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: $(READY) ## Watch two containers share one GPU on a real local cluster (simulated GPU; needs Linux and root)
	@$(BIN)/python -m hack.demo

test: check docs cluster-tests ## Run everything: the checks, the site, then the tests on a real cluster

check: $(READY) binaries ## Format, lint, types, layers, unit, property and component tests (2 to 3 minutes on two cores, once set up)
	@echo "Lint, types, layers, unit and component tests, two at a time, the longest first; each is shown when it is done."
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target component lint types layers unit

lint: $(READY) ## Check format and style
	@$(BIN)/ruff format --check --quiet $(CODE) || { echo "run 'make format'"; exit 1; }
	@$(BIN)/ruff check --quiet $(CODE)

format: $(READY) ## Format the code
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

types: $(READY) ## Check types (mypy strict)
	@$(BIN)/mypy $(CODE)

layers: $(READY) ## Check who imports whom
	@$(BIN)/lint-imports

unit: $(READY) ## Run unit and property tests
	@$(BIN)/pytest -q -n auto tests/unit tests/property

component: $(READY) binaries ## Run tests against a real API server, scheduler and gRPC
	@$(BIN)/pytest -q -n $(COMPONENT_WORKERS) tests/component

cluster-tests: $(READY) ## Run tests on a real cluster: API server, scheduler, kubelet, containerd
	@$(BIN)/python -m hack.cluster prepare
	@$(BIN)/pytest -q tests/cluster

chaos: $(READY) ## Let everything happen to a real cluster at once [SECONDS=3600, with partitions of 60 s; SEED=… repeats]
	@$(BIN)/python -m hack.cluster prepare
	@ARBITER_CHAOS_SECONDS=$(SECONDS) ARBITER_CHAOS_SEED=$(SEED) $(BIN)/pytest -q -s tests/cluster/test_chaos.py

bench: $(READY) ## Run the benchmarks, each beside its yardstick [ONLY=equilibrium: those whose name holds the word]
	@$(BIN)/pytest -q -p benchmark --benchmark-group-by=group --benchmark-sort=min --benchmark-columns=min,median,rounds \
	  --benchmark-max-time=0.5 -k "$(ONLY)" tests/bench

gpu-check: ## Try the NVML backend, and two processes with real memory, on this machine's NVIDIA GPU (needs Python and the driver only)
	@$(PYTHON) -c 'import pynvml' 2>/dev/null || $(MAKE) --no-print-directory $(GPU_CHECK)/.ready
	@python=$(GPU_CHECK)/bin/python; [ -e $(GPU_CHECK)/.ready ] || python=$(PYTHON); PYTHONPATH=deviceplugin $$python -m hack.gpu_check

screens: $(READY) ## Take pictures of arbiter top, explain and doctor on a local cluster (needs Linux and root)
	@$(BIN)/python -m hack.screens

dashboards: $(READY) ## Write the chart's dashboards from hack/dashboards
	@$(BIN)/python -m hack.dashboards

dashboard-pictures: $(READY) binaries ## Draw the dashboards for docs/, from a Prometheus that watches two minutes (takes 3)
	@$(BIN)/python -m tests.component.monitoring.pictures

soak: $(READY) binaries ## Run the long tests: 1,000 kubelets, 40 containers, 2,000 lives on a real node [SOAK_LIVES=200], ...
	@ARBITER_AWAY_SECONDS=60 $(BIN)/pytest -q -k away tests/component/extender/test_outages.py
	@$(BIN)/pytest -q -s $(addprefix tests/component/deviceplugin/soak_,$(addsuffix .py,targets idle registration))
	@$(BIN)/python -m hack.cluster prepare
	@$(BIN)/pytest -q -s tests/cluster/soak_lives.py

fuzz: $(READY) ## Run thousands of spoilt requests and watch events against the extender (make check runs a hundred of each)
	@$(BIN)/pytest -q --hypothesis-profile=long -k "meets_an_exception or a_watch_tells" tests/component/extender/test_hostile.py

binaries: $(READY)
	@$(BIN)/python -m hack.cluster binaries

cluster-up: $(READY) ## Start the local cluster with Arbiter [NODES=2] [GPUS=12Gi,24Gi: usable memory of each node's GPUs]
	@$(BIN)/python -m hack.cluster up --nodes $(NODES) --gpus $(GPUS)

cluster-down: $(READY) ## Remove the local cluster
	@$(BIN)/python -m hack.cluster down

image: $(READY) ## Build Arbiter's image with docker, podman or buildah, whichever is here [TAG=arbiter:0.1.0]
	@$(BIN)/python -m hack.image $(if $(TAG),--tag $(TAG))

manifests: $(READY) binaries ## Write the chart's objects to build/manifests, for kubectl without Helm [VALUES=my.yaml] [KUBERNETES=1.34.1]
	@$(BIN)/python -m hack.manifests $(if $(VALUES),--values $(VALUES)) $(if $(KUBERNETES),--kube-version $(KUBERNETES))

docs: $(SITE)/.ready ## Build the documentation's site into build/site
	@NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --quiet --strict
	@$(PYTHON) -m hack.site

reference: $(READY) ## Write docs/reference/ from the code
	@$(BIN)/python -m hack.reference

crds: $(READY) ## Write crds/, and the chart's, from the models
	@$(BIN)/arbiter crds --directory crds
	@$(BIN)/arbiter crds --directory charts/arbiter/files/crds

protos: $(READY) ## Write the gRPC stubs from their protos
	@$(BIN)/python -m hack.protos

lock: ## Resolve requirements/*.txt anew from pyproject.toml
	@$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet uv
	@build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --custom-compile-command 'make lock' pyproject.toml --output-file requirements/runtime.txt
	@build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --custom-compile-command 'make lock' pyproject.toml --group dev --extra cli --extra plot --output-file requirements/dev.txt
	@build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --custom-compile-command 'make lock' --group image --output-file requirements/image.txt
	@build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --custom-compile-command 'make lock' --group docs --output-file requirements/docs.txt

clean: ## Remove what can be made again (not the cluster, not the cache of binaries)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Arbiter needs Python 3.11 or newer: '$(PYTHON)' is none; name one with make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module: install it (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@echo "Installing Python packages into $(VENV) (locked, with hashes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(SITE)/.ready: requirements/docs.txt
	@echo "Installing what builds the site into $(SITE) (locked, with hashes) ..."
	@$(PYTHON) -m venv $(SITE)
	@$(SITE)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/docs.txt
	@touch $@

$(GPU_CHECK)/.ready: requirements/runtime.txt
	@$(PYTHON) -m venv $(GPU_CHECK)
	@sed -n '/^nvidia-ml-py==/,/[^\\]$$/p' $< > $(GPU_CHECK)/requirements.txt
	@$(GPU_CHECK)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $(GPU_CHECK)/requirements.txt
	@touch $@
