.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Tests wait more than they compute. Each process has servers of its own, and a file's tests stay together; the longest
# files come first as they lie in the tree, and would come last by the number of their tests.
TEST_PROCESSES ?= 3
STAMP := .venv/.installed
LOCK_ARGS := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet

.PHONY: help setup run test soak check format fuzz evidence bench costs bloat chaos controls audit lock clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

setup: $(STAMP)  ## Virtual environment with the locked dependencies

$(STAMP): requirements-dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "python3 was not found: install Python 3.11 or newer, or name one with make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), 3.11 or newer is needed: name one with make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install the package python3-venv (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 2; }
	@echo "Setting up .venv (about a minute the first time) ..."
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: setup  ## Everything on embedded servers, in the foreground: Ctrl-C stops it
	@exec $(BIN)/kata up

test: setup  ## The whole suite, on real servers
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(PYTEST_ARGS)

soak: setup  ## Made-up histories on real servers for an hour, or for SOAK_MINUTES, and what happened in them for EVIDENCE.md
	@$(BIN)/python -m tests.model.soak

check: setup  ## Everything CI checks beside the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	@# What runs in production. devstack and benchmarks start processes, which is what they are for; ruff's S rules see them.
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml api projector shared alembic
	$(BIN)/hadolint Dockerfile.api Dockerfile.projector
	$(BIN)/docker-compose --profile observability config --quiet
	$(BIN)/python -m devstack.alembic_check

format: setup  ## Let ruff format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

evidence: setup  ## Write EVIDENCE.md from running servers (needs Debian's package index; about ten minutes)
	$(BIN)/python -m benchmarks.evidence

fuzz: setup  ## Throw FUZZ_EXAMPLES (3000) of everything at requests, tokens, payloads and the importer, for EVIDENCE.md; about ten minutes
	@FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-3000} FUZZ_RESULT=benchmarks/evidence/fuzz.md $(BIN)/python -m pytest tests/fuzz --verbose --durations=0 --show-capture=no

bench: setup  ## Speed, as ratios measured in turn (NAME=drain: some; QUICK=1: a glance), written for EVIDENCE.md
	$(BIN)/python -m benchmarks.speed $(NAME) $(if $(QUICK),--quick)

costs: setup  ## Where the time of each hot path goes, ranked and kept by commit, for EVIDENCE.md; two minutes
	$(BIN)/python -m benchmarks.speed.costs $$(git rev-parse --short HEAD)

bloat: setup  ## Settle a million messages under a long transaction, and write what each statement then costs for EVIDENCE.md
	$(BIN)/python -m benchmarks.bloat

chaos: setup  ## Break at every crash point, then everything at random for CHAOS_MINUTES (12), and write it for EVIDENCE.md (half an hour)
	$(BIN)/python -m tests.chaos.crash_points
	$(BIN)/python -m tests.chaos.storm

audit: setup  ## Ask PyPI's advisories about every locked dependency (needs the network)
	$(BIN)/uv tool run --from pip-audit==2.10.1 pip-audit --strict --require-hashes --disable-pip --requirement requirements-dev.txt

controls: setup  ## Take every guard away in turn, see that its tests notice, and write the table for EVIDENCE.md (half an hour)
	$(BIN)/python -m tests.controls --times 3

clean:  ## Remove what was generated here (not the data in .kata)
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov

lock: setup  ## Resolve the dependencies again and write both lock files
	$(BIN)/uv pip compile $(LOCK_ARGS) pyproject.toml --output-file requirements.txt
	$(BIN)/uv pip compile $(LOCK_ARGS) pyproject.toml --extra dev --extra embedded --extra tracing --output-file requirements-dev.txt
