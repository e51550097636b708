# make up     a real Kafka, a real ClickHouse engine and the service, on this machine
# make test   everything that CI runs
# The environment in .venv is made on the first call; nothing else needs to be installed.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
  command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
RUN := .venv/bin
UP ?=
CHAOS ?= --minutes 30
MAKEFLAGS += --no-print-directory

.PHONY: help environment up down status test check static unit live schemas bench trust chaos wheel clean
.DEFAULT_GOAL := help

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

environment:
	@test -n "$(PYTHON)" || { echo "anabranch: Python 3.11 or newer is needed and was not found" >&2; \
	  echo "  what to do: install it, or name one: make up PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "anabranch: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "  what to do: name a newer one: make up PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) deploy/bootstrap.py

up: environment ## Start everything and print the addresses (options: make up UP="--port 8081 --detach")
	@$(RUN)/anabranch up $(UP)

down: environment ## Stop what `make up` started
	@$(RUN)/anabranch down

status: environment ## Show what runs
	@$(RUN)/anabranch status

static: environment ## Format, lint, types, import contracts, schema compatibility
	@$(RUN)/ruff format --check .
	@$(RUN)/ruff check .
	@$(RUN)/mypy
	@$(RUN)/lint-imports --no-cache
	@$(RUN)/python -m schemas.compatibility
	@$(RUN)/python -m schemas.generate --check
	@$(RUN)/python -m deploy.metric_page --check

check: static unit ## `make static`, and the tests without I/O

test: static ## Everything that CI runs: static checks and all tests, with coverage
	@$(RUN)/coverage erase
	@$(RUN)/coverage run -m pytest tests
	@$(RUN)/coverage combine -q
	@$(RUN)/coverage report

unit: environment ## Only the tests without I/O
	@$(RUN)/pytest -q tests/unit

live: environment ## Only the tests on the real Kafka and ClickHouse
	@$(RUN)/pytest -q tests/live

schemas: environment ## Write what follows from schemas/*.avsc and from the code
	@$(RUN)/python -m schemas.generate
	@$(RUN)/python -m deploy.metric_page

bench: environment ## Measure, side by side in one run, into bench/results/
	@$(PYTHON) deploy/bootstrap.py --group dev --group bench
	@$(RUN)/python -m bench

trust: environment ## Long simulations of the statistics, in minutes
	@$(RUN)/python -m tests.trust

chaos: environment ## Half an hour of faults, each followed by a count of every event (CHAOS="--minutes 5")
	@LONG_TESTS=1 $(RUN)/pytest -q tests/live/test_rebuild.py
	@$(RUN)/python -m tests.chaos $(CHAOS)

wheel: environment ## Build the SDK's wheel into dist/
	@$(RUN)/python -m deploy.wheel

clean: ## Remove the environment and caches (never the state in .anabranch)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* dist build
