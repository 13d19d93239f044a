# Thin targets: people and CI call the same ones.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PROPERTIES := tests/admission/test_properties.py tests/webhook/certificates/test_rotation.py tests/emulator/test_exchange.py

# Python keeps what it compiled, whoever runs this: else each test process compiles all tests anew, a fifth of the time.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo test programs image sdks e2e e2e-node e2e-sdks check manifests fmt docs bench lock clean

help: ## Show the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## Make .venv with the programs and everything the other targets need

$(STAMP): pyproject.toml requirements/dev.txt tools/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh tools/setup.sh
	@touch $@

demo: $(STAMP) ## Run the main job on this machine: Pod, webhook, token, SDK
	@$(BIN)/azwi demo

test: $(STAMP) ## Run the tests, with branch coverage of the modules without I/O as a gate
	$(BIN)/pytest --numprocesses=4 --dist=worksteal --cov --cov-report=term -q --ignore=tests/e2e -m "not programs"

programs: $(STAMP) ## Run whole programs together: redirects, isolation, bad days, azwi run, the demo; and properties for longer
	$(BIN)/pytest --numprocesses=4 --dist=worksteal -q --ignore=tests/e2e -m programs
	$(BIN)/pytest --numprocesses=2 --dist=worksteal -q --hypothesis-profile=thorough $(PROPERTIES)

image: $(STAMP) ## Build the image into .image/, with its bill of materials (root; Debian packages buildah and mmdebstrap)
	@PYTHON=$(BIN)/python sh image/build.sh
	@$(BIN)/python image/sbom.py .image/azure-workload-identity.tar

sdks: $(STAMP) ## Run the official SDKs of other languages against the emulator, as far as their tools are here
	$(BIN)/pytest -q tests/e2e/sdks/test_contract.py

e2e: $(STAMP) ## Run SDKs through the proxy, and the webhook in front of a real API server (needs Go; builds Kubernetes once)
	$(BIN)/pytest -q tests/e2e/sdks/test_proxy.py
	@test -n "$$KUBECONFIG" || sh tests/e2e/kubernetes/build.sh >/dev/null
	$(BIN)/pytest -q tests/e2e/cluster

e2e-node: $(STAMP) ## Run image, chart and workloads on a real node (root; Debian packages; needs Go)
	@PYTHON=$(BIN)/python sh image/build.sh >/dev/null
	AZWI_E2E_IMAGE=$(CURDIR)/.image/azure-workload-identity.tar $(BIN)/pytest -q -p no:randomly tests/e2e/image tests/e2e/node

e2e-sdks: $(STAMP) ## Run the SDKs of five languages on that node (also Maven, a JDK, Cargo)
	@PYTHON=$(BIN)/python sh image/build.sh >/dev/null
	AZWI_E2E_SDKS=all AZWI_E2E_IMAGE=$(CURDIR)/.image/azure-workload-identity.tar $(BIN)/pytest -q -p no:randomly tests/e2e/node/test_sdks.py

check: $(STAMP) ## Lint, format check, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src tests bench image tools

manifests: $(STAMP) ## Render the chart anew: deploy/azure-wi-webhook.yaml and the golden renders of its tests
	@$(BIN)/python tools/manifests.py

fmt: $(STAMP) ## Format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## Write the reference in docs/azwi.md from the commands' definitions
	$(BIN)/python tools/write_docs.py

bench: $(STAMP) ## Print CPU and memory figures with their method
	@$(BIN)/python -m compileall -q src
	$(BIN)/python -m bench

lock: ## Renew the locked requirements (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate -q \
		pyproject.toml -o requirements/runtime.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate -q \
		-c requirements/runtime.txt pyproject.toml requirements/dev.in -o requirements/dev.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate -q \
		-c requirements/dev.txt requirements/build.in -o requirements/build.txt

clean: ## Remove what the targets made
	rm -rf $(VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
