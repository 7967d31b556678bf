# Every command works on a fresh checkout: the first one makes .venv and installs into it what it needs: `demo` what runs,
# the others the tools of development as well, beside what is there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install lock lock-recipes demo lint site test coverage test-long torture sabotage bench bench-quick clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

# The very versions that were tested. An application that depends on reindexer gets the ranges of pyproject.toml.
INSTALL := "$(BIN)/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

$(VENV)/runs: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "reindexer needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(INSTALL) --editable '.[embedded]'
	@touch "$@"

$(VENV)/installed: $(VENV)/runs
	$(INSTALL) --editable '.[embedded,structure,dev,docs]'
	@touch "$@"

install: $(VENV)/installed ## make .venv with everything

# One file for all platforms and Pythons. Run it, and the tests, before a release.
LOCKED ?= constraints.txt
LOCK = --universal --python-version 3.11 --no-annotate --no-emit-index-url --quiet --upgrade \
	--custom-compile-command "make $@"

lock: install ## write the newest versions that pyproject.toml allows into constraints.txt
	"$(BIN)/uv" pip compile pyproject.toml --all-extras $(LOCK) --output-file "$(LOCKED)"

lock-recipes: install ## the same for what docs/clients.md and docs/beside.md install
	sed -n 's/^pip install //p' docs/clients.md docs/beside.md | tr ' ' '\n' | \
		"$(BIN)/uv" pip compile - $(LOCK) --output-file tests/recipes/constraints.txt

demo: $(VENV)/runs ## the whole story with real text on this machine, in 20 seconds and the installation
	"$(BIN)/reindexer" demo

# Versions whose schemas the manifests of deploy/kubernetes fit.
KUBERNETES := 1.35 1.36 1.37

lint: install site ## ruff, mypy --strict, import-linter, codespell, Markdown, the site with its links, manifests
	"$(BIN)/python" -m ruff format --check .
	"$(BIN)/python" -m ruff check .
	"$(BIN)/python" -m mypy
	"$(BIN)/python" -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'
	"$(BIN)/codespell"
	"$(BIN)/pymarkdown" --strict-config scan --recurse *.md docs
	"$(BIN)/kubernetes-validate" --strict --quiet $(KUBERNETES:%=-k %) deploy/kubernetes/*.yaml

site: install ## docs/ as a website in .site/; fails where a link of it leads nowhere
	"$(BIN)/zensical" build --clean --strict

# Four parts at once, each with servers of its own (they wait more than they work); one after the other on servers that are given, which they would share.
GIVEN := $(REINDEXER_TEST_DATABASE_URL)$(REINDEXER_TEST_REDIS_URL)$(REINDEXER_TEST_QDRANT_URL)$(REINDEXER_TEST_STACK)
PARALLEL := $(if $(GIVEN),,-n 4 --dist worksteal)

# Each process of pytest compiles all tests, with their assertions rewritten: 8 s of CPU, unless it may keep what it made.
unexport PYTHONDONTWRITEBYTECODE

# What measures time runs afterwards, with nothing beside it; what then fails by an assertion is measured once more, and told.
ALONE = $(shell grep -rl "mark\.alone" tests)
AGAIN := --reruns 1 --only-rerun AssertionError --rerun-show-tracebacks

# A socket that is never closed fails whatever test runs when the garbage collector finds it: that one is run again, and told.
INNOCENT := --reruns 1 --only-rerun "(unclosed|Exception ignored in:) <socket"

test: install ## the suite: starts its own Postgres, Redis, Qdrant server and workers
	"$(BIN)/python" -m pytest -m "not long and not alone" $(PARALLEL) $(INNOCENT)
	"$(BIN)/python" -m pytest -m "not long and alone" $(AGAIN) $(ALONE)

# Half as much processor time again would break time limits of tests that make faults: those run without. `make test` judges
# the tests; here only lines count.
coverage: install ## which lines run, in child processes too; fails below the floor that pyproject.toml names
	rm -rf .coverage_data
	-"$(BIN)/python" -m coverage run -m pytest -q -m "not long and not alone" $(PARALLEL) tests/unit tests/contract tests/integration
	"$(BIN)/python" -m coverage combine --quiet --keep
	"$(BIN)/python" -m coverage report

test-long: install ## the suite and what takes minutes
	"$(BIN)/python" -m pytest -m "not alone" $(PARALLEL) $(INNOCENT)
	"$(BIN)/python" -m pytest -m alone $(AGAIN) $(ALONE)

# make torture [SEED=n] [SECONDS=s]; docs/torture.md tells what it does.
torture: install ## random edits under random faults for a minute, then an exact comparison
	"$(BIN)/python" -m tests.torture $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))

# make sabotage [ONLY="words of a mechanism or test"] [PART=n/m]; CI runs another tenth at each commit.
sabotage: install ## take each protecting mechanism away in turn; fails if its test does not notice
	"$(BIN)/python" -m tests.faults.sabotage $(if $(PART),--part $(PART)) $(ONLY)

# make bench [ONLY="names of benchmarks"]; docs/performance.md tells what they measure.
bench: install ## every figure beside its comparator, into bench/results.json
	"$(BIN)/python" -m bench $(if $(ONLY),--only $(ONLY))

bench-quick: install ## the same in a few minutes, smaller and once each
	"$(BIN)/python" -m bench --quick $(if $(ONLY),--only $(ONLY))

clean: ## remove .venv and caches
	rm -rf "$(VENV)" .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage_data .cache .site
