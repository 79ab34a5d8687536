# Everything a newcomer needs: `make run`, then `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUN    ?= latest
PROFILE ?= tiny
FORGE_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup lock run report test attack attack-api verify lint types unit deps dead docs docs-serve hooks format phase compile clean
.PHONY: images images-push images-test chart-test cluster-test kind-up kind-load kind-test kind-down

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make the virtual environment (TORCH=cpu or cuda; the default is the CPU build, where no GPU is and an index has it)

$(READY): pyproject.toml requirements.lock scripts/environment.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Agent Forge needs Python 3.11 or newer: make PYTHON=python3.11 …"; exit 1; }
	$(PYTHON) scripts/environment.py $(VENV)
	@touch $@

# The page of the control plane: built once, and again when something of it is newer.
PAGE      := pipelines/control/dashboard
PAGE_TEXT := $(shell find $(PAGE)/src $(PAGE)/public $(PAGE)/scripts -type f 2>/dev/null) $(addprefix $(PAGE)/,index.html package.json package-lock.json tsconfig.json vite.config.ts)

.PHONY: dashboard
dashboard: $(PAGE)/dist/index.html ## build the page of the control plane (Node out of PyPI's wheel, where the machine has none)

$(PAGE)/dist/index.html: $(PAGE_TEXT) | $(READY)
	$(BIN)/python scripts/dashboard.py $(VENV)/node

lock: $(READY) ## resolve all packages again, with hashes: requirements.lock and images/locks (LOCK_FLAGS=--upgrade)
	$(BIN)/python images/lock.py $(LOCK_FLAGS)

run: $(READY) ## forge an agent through all eight phases on this machine; ends in a report (STORE=s3: through make up)
	$(if $(filter s3,$(STORE)),images/in-store.sh) $(BIN)/forge run-pipeline --profile $(PROFILE) $(FORGE_ARGS) $(addprefix --store ,$(filter-out s3,$(STORE)))

report: $(READY) ## write the report of a run again (RUN=name, default the latest)
	$(BIN)/forge report $(RUN)

# Docker's compose, or podman-compose, which neither waits nor knows how to.
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || command -v docker-compose || command -v podman-compose || echo docker compose)
STACK    = $(COMPOSE) --file images/compose.yaml --env-file images/.env

.PHONY: up down
up: images/.env ## start MinIO, MLflow, Postgres and Redis (PROFILES=control or gpu: our own services too)
	$(STACK) $(addprefix --profile ,$(PROFILES)) up --detach $(if $(findstring podman,$(COMPOSE)),,--wait)

down: images/.env ## stop them; what they hold stays in their volumes
	$(STACK) --profile control --profile gpu down

images/.env:
	$(PYTHON) images/dotenv.py

test: $(READY) verify ## what CI runs

verify: lint ## the same, step by step: ruff, mypy, deptry, vulture, the site, the page, pytest
	@$(MAKE) --no-print-directory --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) types deps dead docs dashboard
	@$(MAKE) --no-print-directory unit

lint: $(READY) ## ruff: style and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

deps: $(READY) ## deptry: everything that is imported is declared, and a phase does with the base
	$(BIN)/deptry components pipelines
	$(BIN)/deptry components --extend-exclude '.*/(component|container)\.py$$' --optional-dependencies-dev-groups control,pipelines,docs,dev --ignore DEP002
	$(BIN)/deptry tests scripts images charts --exclude '^tests/performance' --optional-dependencies-dev-groups deepspeed --ignore DEP002

dead: $(READY) ## vulture: code that nothing calls
	$(BIN)/vulture

docs: $(READY) ## the site of the documents, in site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(READY) ## the site at http://localhost:8000, made again at every change
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

hooks: $(READY) ## let git run ruff before each commit (.pre-commit-config.yaml)
	$(BIN)/pre-commit install

types: $(READY) ## mypy: strict for the runtime and the pipelines
	$(BIN)/mypy

unit: $(READY) ## pytest, with its slow proofs left out (they are tests/performance)
	$(BIN)/python -m pytest --numprocesses auto --dist loadscope --no-loadscope-reorder --durations 10

attack: $(READY) ## a thousand hostile attempts in ten minutes at most (ATTACK_ARGS="--seed 7 --classes damage"); 1 where one is not survived
	$(BIN)/python -m tests.attack $(ATTACK_ARGS)

attack-api: $(READY) ## what somebody may try on the API, against real servers (ATTACK_ARGS="--areas tokens,rights"); 1 where one gets through
	$(BIN)/python -m tests.attack_api $(ATTACK_ARGS)

format: $(READY) ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

phase: $(READY) ## make the folder of a new phase, which runs as it is (NAME=distill, AFTER=adas)
	@test -n "$(NAME)" || { echo "Say what it is called: make phase NAME=distill"; exit 1; }
	$(BIN)/forge new-phase $(NAME) $(addprefix --after ,$(AFTER))

compile: $(READY) ## compile the pipeline to pipelines/agent_forge.yaml
	$(BIN)/forge compile --committed

.PHONY: monitoring
monitoring: $(READY) ## write Grafana's dashboards from scripts/dashboards
	$(BIN)/python -m scripts.dashboards

images: ## build the container images (VARIANT=cuda or cpu; docker buildx, podman or buildah)
	images/build.sh

images-push: ## push them and pin them in images/images.lock (REGISTRY=ghcr.io/acme/agent-forge)
	@test -n "$(REGISTRY)" || { echo "Say where to: make images-push REGISTRY=ghcr.io/acme/agent-forge"; exit 1; }
	$(PYTHON) images/push.py --registry $(REGISTRY) $(PUSH_FLAGS)

images-test: $(READY) ## run the pipeline in the built images as pods run it; a missing tool fails
	FORGE_REQUIRE_TOOLS=1 FORGE_TEST_IMAGES=1 $(BIN)/python -m pytest tests/image --numprocesses 0 -rs

chart-test: $(READY) ## the Helm chart: lint, schemas, what it renders (helm comes out of a wheel where PATH has none); a missing tool fails
	FORGE_REQUIRE_TOOLS=1 $(BIN)/python -m pytest tests/chart --ignore tests/chart/cluster --numprocesses 0 -rs

cluster-test: $(READY) ## the chart on a real Kubernetes API (KUBEBUILDER_ASSETS=folder, or FORGE_TEST_KUBECONFIG=file)
	@test -n "$(KUBEBUILDER_ASSETS)$(FORGE_TEST_KUBECONFIG)" || { echo "Say where an API server is: KUBEBUILDER_ASSETS, a folder with etcd and kube-apiserver, or FORGE_TEST_KUBECONFIG"; exit 1; }
	$(BIN)/python -m pytest tests/chart/cluster --numprocesses 0 -rs

kind-up: ## a kind cluster with Kubeflow Pipelines (charts/kind)
	charts/kind/up.sh

kind-load: $(READY) ## the images into it
	charts/kind/load.sh

kind-test: $(READY) ## the chart there, a micro run to its end, one phase again
	charts/kind/test.sh

kind-down: ## remove the cluster
	charts/kind/down.sh

clean: ## remove the virtual environment and the caches, keep the runs
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache *.egg-info
