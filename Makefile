# farthing: every target sets up what it needs; only git, make and Python 3.11 to 3.13 have to be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := core litellm_plugin langchain_plugin crewai_plugin reports
NAMES := farthing farthing-litellm farthing-langchain farthing-crewai farthing-reports
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test matrix floors lint check fix bench soak peers catalog lock clean

help: ## Say what can be done
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(READY) ## Create .venv with everything, pinned and hash-checked

$(READY): constraints.txt pyproject.toml $(PACKAGES:%=packages/%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "farthing needs Python 3.11 to 3.13; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "==> creating $(VENV) (the first time this downloads three frameworks; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@awk '/^uv==/ {p=1} p {print} p && !/\\$$/ {exit}' constraints.txt > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	@echo "==> installing the pinned, hash-checked dependencies"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r constraints.txt
	@echo "==> installing the workspace"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(PACKAGES:%=-e packages/%)
	@touch $@

demo: $(READY) ## Run a small application on all three frameworks and show who paid for what
	@$(BIN)/python examples/shop/run.py

test: $(READY) ## Run every test
	@$(BIN)/python -m pytest -n 2 --dist loadfile -q $(ARGS)

matrix: $(READY) ## Run every stack in every situation, and write docs/matrix.md
	@$(BIN)/python tools/matrix.py

floors: $(READY) ## Run the matrix and the plugins at the lowest and the newest version of each framework
	@$(BIN)/python tools/floors.py $(ARGS)

lint: $(READY) ## Format, lint, import rules and types
	@$(BIN)/ruff format --check -q .
	@$(BIN)/ruff check -q .
	@$(BIN)/lint-imports
	@$(BIN)/pyright --warnings

check: $(READY) ## Everything that CI runs, with branch coverage
	@$(MAKE) lint
	@$(BIN)/python -m pytest -n 2 --dist loadfile -q --cov --cov-report=term:skip-covered

fix: $(READY) ## Format and mend what can be mended
	@$(BIN)/ruff format -q .
	@$(BIN)/ruff check -q --fix .

bench: $(READY) ## Measure our overhead beside none, a no-op handler and the peers
	@$(BIN)/python benchmarks/overhead/run.py $(ARGS)
	@$(BIN)/python benchmarks/delivery/run.py

soak: $(READY) ## Ask 20,000 mixed calls at once and lay the ledger beside the invoice
	@$(BIN)/python benchmarks/soak/run.py $(ARGS)

peers: $(READY) ## Run the peers over the test matrix beside the invoice, and write docs/peers.md
	@$(BIN)/python benchmarks/peers/run.py $(ARGS)

catalog: $(READY) ## Build the bundled price catalogue anew from the installed genai-prices
	@$(BIN)/python tools/build_catalog.py

lock: ## Pin the newest allowed versions anew into constraints.txt (hashed, without any host)
	@$(BIN)/uv pip compile --quiet pyproject.toml --group frameworks --group test --group check --group build \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		$(NAMES:%=--no-emit-package %) --no-annotate --no-header --upgrade -o constraints.txt

clean: ## Remove the environment and everything built
	rm -rf $(VENV) .venvs .demo dist .pytest_cache .ruff_cache .hypothesis .coverage
