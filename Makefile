# Everything here works on a fresh machine with Python 3.10 to 3.13, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo dev test test-quick bench bench-quick bench-memory bench-webhooks reference lint format lock clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Create .venv and install the exact versions of requirements.lock

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else f"scrapedo_dagster needs Python 3.10 to 3.13, and $(PYTHON) is {v[0]}.{v[1]}. Choose another: make PYTHON=python3.12 ...")'
	@echo "Installing into $(VENV) (the first time takes a minute or two) ..."
ifdef UV
	@test -x $(BIN)/python || $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
	@$(UV) pip install --quiet --python $(BIN)/python -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endif
	@touch $@

demo: $(INSTALLED) ## Run the whole pipeline against the emulator (or the real service, see README)
	@$(BIN)/python -m scrapedo_dagster.demo.run

dev: $(INSTALLED) ## Start the emulator, the demo site and the Dagster UI
	@$(BIN)/python -m scrapedo_dagster.demo.dev

test: $(INSTALLED) ## Run all tests
	@$(BIN)/python -m pytest -n auto --dist worksteal

# One worker more than there are cores: many of these tests wait for a server.
test-quick: $(INSTALLED) ## Run the tests that need seconds, not minutes
	@$(BIN)/python -m pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal -m "not slow"

bench: $(INSTALLED) ## Measure everything on a quiet machine and write docs/performance.md (under ten minutes)
	@$(BIN)/python benchmarks/run.py --save

bench-quick: $(INSTALLED) ## Try all benchmarks with few tasks; saves nothing (under a minute)
	@$(BIN)/python benchmarks/run.py --quick

bench-memory: $(INSTALLED) ## Measure that memory does not grow with the partition (takes minutes)
	@$(BIN)/python benchmarks/memory.py

bench-webhooks: $(INSTALLED) ## Measure how many webhooks a second are received and stored (takes a minute)
	@$(BIN)/python benchmarks/webhooks.py

lint: $(INSTALLED) ## Check style, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(INSTALLED) ## Fix style and formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

reference: $(INSTALLED) ## Write docs/reference.md from the docstrings
	@$(BIN)/python docs/generate_reference.py

lock: ## Resolve requirements.lock anew (needs uv)
	@uv pip compile --quiet --universal --python-version 3.10 --extra dev --no-header --no-annotate pyproject.toml -o requirements.lock

# Not the ledger, nor scraped/: they know of what was paid for.
clean: ## Remove .venv, caches and what the demo wrote
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist demo_data
	@rm -rf dagster_home/history dagster_home/schedules dagster_home/storage dagster_home/logs
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
