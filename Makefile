# The whole workshop. `make` alone lists the commands.
#
# Recipe lines that start a long-lived program are simple commands: make runs those without a shell
# between, so that a SIGTERM sent to make reaches the program itself.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
DEV_ARGS ?=
BENCH_ARGS ?=
MINUTES ?= 5
CHAOS_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := dev,flower,gevent,test

.DEFAULT_GOAL := help
.PHONY: help setup dev test check bench bench-streams chaos lock clean

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make the virtual environment (every command below does it by itself).

dev: $(STAMP) ## Play the demo, then start Redis, worker and web. Ctrl-C stops all. DEV_ARGS="--port 8001"
	@$(BIN)/agentkit demo
	@$(BIN)/agentkit dev $(DEV_ARGS)

test: check ## Check, then run every test, two files at a time. PYTEST_ARGS="tests/unit -k settings"
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

check: $(STAMP) ## Formatting, lint, types, and the floors and walls of the house.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## Measure a step's cost against a bare Celery chain.
	$(BIN)/python -m bench.steps $(BENCH_ARGS)

bench-streams: $(STAMP) ## Measure what a watcher costs, beside two relays. BENCH_ARGS="--watchers 1000"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m bench.streams $(BENCH_ARGS)

chaos: $(STAMP) ## Runs over processes that are killed and stopped, for MINUTES=5. CHAOS_ARGS="--seed 7"
	$(BIN)/python -m chaos --minutes $(MINUTES) $(CHAOS_ARGS)

# Only `name==version` lines: what a machine's own pip configuration adds has no place in the repository.
lock: ## Write constraints.txt anew from the newest versions that pyproject.toml allows.
	@$(call need_python)
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	$(PYTHON) -m venv "$$tmp/venv"; \
	"$$tmp/venv/bin/python" -m pip install --quiet -e '.[$(EXTRAS),bench]'; \
	"$$tmp/venv/bin/python" -m pip freeze --exclude agentkit-celery > "$$tmp/freeze"; \
	{ echo '# Every version that the tests ran with. Written by `make lock`; do not edit.'; \
	  grep -E '^[A-Za-z0-9._-]+==[^ ]+$$' "$$tmp/freeze" | LC_ALL=C sort -f; } > "$$tmp/lock"; \
	cp "$$tmp/lock" constraints.txt

clean: ## Remove the virtual environment and what tools left behind.
	rm -rf $(VENV) build chaos/results dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find agentkit bench chaos examples tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(STAMP): pyproject.toml constraints.txt
	@$(call need_python)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once; about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

define need_python
command -v $(PYTHON) >/dev/null || { echo "agentkit needs Python 3.11 or newer, and '$(PYTHON)' is not here. Name one: make PYTHON=python3.12" >&2; exit 1; }; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "agentkit needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
endef
