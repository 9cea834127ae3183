# Every command of development. `make` alone lists them.
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
RELEASE_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RIVALS := build/rivals
REACT := clients/react
REACT_STAMP := $(REACT)/node_modules/.installed
CHAT := examples/chat
CHAT_STAMP := $(CHAT)/node_modules/.installed
WIRES := clients/wires
WIRES_STAMP := $(WIRES)/node_modules/.installed
PAGE := agentkit/server/page/files
EXTRAS := crypto,dev,docs,fast,flower,gevent,test

.DEFAULT_GOAL := help
.PHONY: help setup dev test check bench bench-growth bench-rivals bench-streams bench-tokens chaos types docs page lock release-check clean

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make the virtual environment (every command below does it by itself).

dev: $(STAMP) ## Play the demo, then start Redis, worker and web. Ctrl-C stops all. DEV_ARGS="--port 8001"
	@$(BIN)/agentkit dev --demo $(DEV_ARGS)

test: check ## Check, then run every test, two files at a time, and show the coverage. PYTEST_ARGS="tests/unit -k settings"
	@$(call with_node,$(MAKE) --no-print-directory $(REACT_STAMP) && cd $(REACT) && npm test)
	@$(call with_node,$(MAKE) --no-print-directory $(CHAT_STAMP) && (cd $(CHAT) && npm run --silent build -- --outDir ../../build/page --emptyOutDir --logLevel warn) && diff -rq build/page $(PAGE))
	@$(call with_node,$(MAKE) --no-print-directory $(WIRES_STAMP))
	$(BIN)/python -m pytest -n 2 --dist loadfile $(or $(PYTEST_ARGS),--cov --cov-report=)

check: $(STAMP) ## Formatting, lint, types, and which module may import which.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(call with_node,$(MAKE) --no-print-directory $(REACT_STAMP) && cd $(REACT) && npm run check)
	@$(call with_node,$(MAKE) --no-print-directory $(CHAT_STAMP) && cd $(CHAT) && npm run check)
	@$(call with_node,$(MAKE) --no-print-directory $(WIRES_STAMP) && cd $(WIRES) && npm run check)

bench: $(STAMP) ## Measure a step's cost beside bare Celery chains and LangGraph. BENCH_ARGS="--runs 100"
	$(BIN)/python -m bench.steps $(BENCH_ARGS)

bench-growth: $(STAMP) ## Measure whether a step costs more late in a long run. BENCH_ARGS="--turns 1000"
	$(BIN)/python -m bench.growth $(BENCH_ARGS)

bench-rivals: ## Install what the benchmarks compare with, LangGraph and a Postgres, into build/rivals. Once.
	@$(call need_python)
	$(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check -r bench/rivals/requirements.txt

bench-streams: $(STAMP) ## Measure what a watcher costs, beside two relays. BENCH_ARGS="--watchers 1000"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m bench.streams $(BENCH_ARGS)

bench-tokens: $(STAMP) ## Measure what a streamed token costs, beside others that read it. BENCH_ARGS="--answers 50"
	$(BIN)/python -m bench.tokens $(BENCH_ARGS)

chaos: $(STAMP) ## Runs over processes that are killed and stopped, for MINUTES=5. CHAOS_ARGS="--seed 7"
	$(BIN)/python -m chaos --minutes $(MINUTES) $(CHAOS_ARGS)

types: $(STAMP) ## Write clients/react/src/core/wire.ts from the structures that are on the wire.
	@$(BIN)/python -m clients.make_types

docs: $(STAMP) ## Build the documentation's site into build/site, strictly. DOCS="serve" shows it while you write.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs $(or $(DOCS),build) --strict

page: $(STAMP) $(CHAT_STAMP) ## Build the page that is served at / anew from examples/chat and clients/react. Needs Node.
	@cd $(CHAT) && npm run --silent build
	@$(BIN)/python -m examples.chat.manifest

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

release-check: $(STAMP) ## Build what would be published and try it: PyPI's files on each Python, npm's in fresh applications.
	@$(BIN)/python -m release.check $(RELEASE_ARGS)

clean: ## Remove the virtual environment and what tools left behind.
	rm -rf $(REACT)/node_modules $(REACT)/dist $(CHAT)/node_modules $(WIRES)/node_modules
	rm -rf $(VENV) build chaos/results dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find agentkit bench chaos examples tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(STAMP): pyproject.toml constraints.txt
	@$(call need_python)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once; about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

$(REACT_STAMP): $(REACT)/package.json $(REACT)/package-lock.json
	@echo "Installing into $(REACT)/node_modules (once) ..."
	@cd $(REACT) && npm ci --ignore-scripts --silent
	@touch $@

$(CHAT_STAMP): $(CHAT)/package.json $(CHAT)/package-lock.json
	@echo "Installing into $(CHAT)/node_modules (once) ..."
	@cd $(CHAT) && npm ci --ignore-scripts --silent
	@touch $@

$(WIRES_STAMP): $(WIRES)/package.json $(WIRES)/package-lock.json
	@echo "Installing into $(WIRES)/node_modules (once) ..."
	@cd $(WIRES) && npm ci --ignore-scripts --silent
	@touch $@

# The browser's end needs Node; the rest does not. Without Node a warning is printed, and with CI=true it is a failure.
define with_node
if command -v npm >/dev/null && node -e 'process.exit(Number(process.versions.node.split(".")[0] < 20))'; then $(1); \
else echo "NOT CHECKED: $(REACT), $(CHAT) and $(WIRES) need Node 20.19 or newer, and there is none here." >&2; test "$(CI)" != true; fi
endef

define need_python
command -v $(PYTHON) >/dev/null || { echo "agentkit needs Python 3.11 or newer, and '$(PYTHON)' is not here. Name one: make PYTHON=python3.12" >&2; exit 1; }; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "agentkit needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
endef
