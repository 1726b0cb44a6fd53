# Everything a newcomer needs; `make help` lists it. Each target sets up what it needs, once.

PYTHON ?= python3
BIN := .venv/bin
# They say "installed", and go stale when the dependencies change.
RUN_READY := .venv/.installed-run
TEST_READY := .venv/.installed-test

.DEFAULT_GOAL := help
.PHONY: help setup run demo stack test bench bench-log bench-jobs bench-peers lint proto check-proto format clean doctor

help: ## list all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(TEST_READY) ## make .venv with everything that running, developing and testing needs

run: $(RUN_READY) ## start the tracker on the embedded default, all in one process; Ctrl-C ends it
	@exec $(BIN)/python -m tracker_server up

demo: $(TEST_READY) ## train small real models and show the summary; uses a running tracker or starts its own
	@exec $(BIN)/python examples/demo.py

stack: $(RUN_READY) ## start the full form: RabbitMQ, Redis, PostgreSQL, serve and consume; Ctrl-C ends all of it
	@exec $(BIN)/python -m deploy.stack $(STACK_OPTIONS)

test: $(TEST_READY) lint ## lint, then run all tests against real servers that they start and stop themselves
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile $(PYTEST_OPTIONS)

lint: $(TEST_READY) ## check style, types and the contract
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/buf lint
	@protos/check_breaking.sh

proto: $(TEST_READY) ## generate the stubs in generated/ from protos/
	@protos/generate.sh

check-proto: $(TEST_READY) ## fail when generated/ is not what protos/ gives
	@protos/generate.sh --check

format: $(TEST_READY) ## put all code into the common format
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

bench: $(TEST_READY) ## measure speed against baselines, on both forms (BENCH_OPTIONS=--quick for less)
	@exec $(BIN)/python -m benchmarks $(BENCH_OPTIONS)

bench-log: $(TEST_READY) ## measure what run.log() costs a training loop (BENCH_OPTIONS="--seconds 30" for more)
	@exec $(BIN)/python -m benchmarks.log_call $(BENCH_OPTIONS)

bench-jobs: $(TEST_READY) ## simulate many training jobs, and tell what they cost each part (JOBS_OPTIONS="--jobs 1000")
	@exec $(BIN)/python -m benchmarks.jobs $(JOBS_OPTIONS)

bench-peers: $(TEST_READY) ## measure MLflow, Aim, trackio, W&B, TensorBoard and this side by side (BENCH_OPTIONS="--quick --only NAME")
	@exec $(BIN)/python -m benchmarks.peers $(BENCH_OPTIONS)

doctor: $(RUN_READY) ## check every configured part, and say what is wrong and what to do
	@$(BIN)/python -m tracker_server doctor

clean: ## remove .venv, caches, and the servers' data in .stack/ (not tracker.db)
	@for link in .stack/*; do if [ -L "$$link" ]; then rm -rf "$$(readlink -f "$$link")"; fi; done
	@rm -rf .venv .venv-* .stack .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@sh deploy/venv.sh $(PYTHON)

$(RUN_READY): pyproject.toml | $(BIN)/python
	@echo "installing into .venv (once) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[server,dev]'
	@touch $@

$(TEST_READY): pyproject.toml | $(BIN)/python
	@echo "installing into .venv (once) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[server,dev,demo,import,dev-importers]'
	@touch $(RUN_READY) $@
