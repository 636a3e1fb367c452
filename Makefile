# Every target sets up what it needs: .venv is made from requirements.lock by uv, which is fetched if it is not there.
unexport PYTHONDONTWRITEBYTECODE # imports of torch and diffusers take three times as long without byte code
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .venv-uv/bin/uv)
PYTHON := .venv/bin/python
export PATH := $(PATH):$(CURDIR)/.venv-uv/bin
.PHONY: help setup demo test test-kill test-preempt chart-test chart-scan cluster-test cluster-test-node storage-test-minio kfp-submit images lint generate verify lock bench clean
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-19s %s\n", $$1, $$2}' Makefile

setup: .venv/.ready ## Make .venv from the lock file; at once when it is current

demo: .venv/.ready ## Under ten minutes on two cores: data, fine-tuning, samples and a report, in out/
	@$(PYTHON) -m pipelines.demo --out out

test: .venv/.ready ## All tests that need no accelerator and no cluster, with coverage
	$(PYTHON) -m coverage erase && $(PYTHON) -m coverage run -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder && $(PYTHON) -m coverage combine -q && $(PYTHON) -m coverage report

test-kill: .venv/.ready ## Kill training at random steps, many times, and compare the losses (slow)
	$(PYTHON) -m pytest -m slow tests/endurance/test_kill_and_resume.py

test-preempt: .venv/.ready ## Preempt a gang of two nodes fifty times at random moments; no step may be lost (slow)
	$(PYTHON) -m pytest -m slow -s tests/endurance/test_preemption.py

chart-test: .venv/.ready ## What two versions of Helm make of the chart, against all schemas (Go for these, once)
	$(PYTHON) -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal -m charts tests/charts

chart-scan: .venv/.ready ## A policy checker over what the chart makes (200 MB on first use)
	$(PYTHON) -m tests.charts.scan

cluster-test: .venv/.ready ## Tests on a real Kubernetes control plane, built on first use (Go; 20 minutes once, then 3)
	$(PYTHON) -m tests.cluster.run

cluster-test-node: .venv/.ready ## Train in pods of two real nodes, and disturb them (root, Go, Debian packages; on demand)
	$(PYTHON) -m tests.cluster.nodes.run

storage-test-minio: .venv/.ready ## The tests of the store against MinIO, built on first use (Go)
	$(PYTHON) -m tests.cluster.build minio && $(PYTHON) -m pytest --store minio tests/test_storage.py tests/test_storage_failures.py tests/test_manifest.py tests/test_checkpoint.py

kfp-submit: .venv/.ready ## Submit PIPELINE with PARAMETERS to ENDPOINT, follow the run, and fail when it fails
	@$(PYTHON) -m pipelines.submit $(PIPELINE) $(PARAMETERS) $(if $(ENDPOINT),--endpoint $(ENDPOINT)) $(OPTIONS)

images: .venv/.ready ## Build both images without a container engine, list what is in them, in out/images (root, Debian packages)
	@$(PYTHON) -m images.build $(OPTIONS)

lint: .venv/.ready ## Format, lint and types
	.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/mypy

generate: .venv/.ready ## Write the compiled components and pipelines, and the generated pages
	$(PYTHON) -m pipelines.generate && $(PYTHON) -m charts.manifests

verify: .venv/.ready ## Fail with a diff where a generated file is not current
	$(PYTHON) -m pipelines.generate --check && $(PYTHON) -m charts.manifests --check

lock: $(filter .venv-uv/%,$(UV)) ## Resolve requirements.lock anew
	$(UV) pip compile pyproject.toml --upgrade --universal --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet --output-file requirements.lock

bench: .venv/.ready ## Measure what the documentation claims
	$(PYTHON) -m benchmarks

clean: ## Remove everything that the other targets made
	rm -rf out .venv .venv-uv .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/.ready: requirements.lock pyproject.toml $(filter .venv-uv/%,$(UV))
	$(UV) venv --quiet --allow-existing --python '>=3.11,<3.15' .venv && $(UV) pip sync --python $(PYTHON) requirements.lock && $(UV) pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation --editable . && touch $@

.venv-uv/bin/uv:
	python3 -m venv .venv-uv && .venv-uv/bin/pip install --quiet uv
