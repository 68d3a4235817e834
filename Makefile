# Two commands: `make boot` and `make test`. Each does all its own set-up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ROOT   ?= .continuum

.PHONY: boot test check docs bench bench-check torture trio-suite lock clean

boot: $(VENV)/.run
	$(BIN)/python -m rtos boot --root $(ROOT)

# One process per core, at most four: more only wait for each other's disks.
test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadgroup

check: $(VENV)/.dev
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m mypy
	! grep -nE 'https?://|index-url|find-links' requirements*.lock

# The site, in build/docs. A warning is an error; nothing is fetched, neither now nor by the pages.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs

# Ratios within one run, and the lines they must hold.
bench-check: $(VENV)/.dev
	$(BIN)/python -m bench --check

# All of it, and the tables of docs/benchmarks.md.
bench: $(VENV)/.dev
	$(BIN)/python -m bench --all
	$(BIN)/python -m bench --docs

# Kills, faults, power cuts, hostile requests, many databases, and every long test at its full length: half an hour.
# TORTURE="--kills 50 --minutes 1" shortens it.
torture: $(VENV)/.dev
	$(BIN)/python tests/torture $(TORTURE)
	$(BIN)/python tests/trio_suite.py --strict
	RTOS_TESTS=full $(MAKE) test

# Trio's own tests, with its run queue and with ours: the results must be the same.
trio-suite: $(VENV)/.dev
	$(BIN)/python tests/trio_suite.py

# The stamps stand for what is installed; they follow the locks and the project's own table.
$(VENV)/.run: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@ $(VENV)/.run

$(VENV)/.docs: requirements-docs.lock $(VENV)/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	touch $@

# Needs uv; the locks carry versions and hashes, and no address. They name extras, or the pip of a fresh Python 3.11
# takes the newest coverage for `coverage[toml]`, for which there is no hash.
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-strip-extras -o requirements.lock
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-strip-extras -o requirements-dev.lock
	uv pip compile --group docs -c requirements-dev.lock --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-strip-extras -o requirements-docs.lock

clean:
	rm -rf $(VENV) build dist docs/reference/modules docs/how-to/system-fields.md docs/design/*.svg .pytest_cache .mypy_cache .ruff_cache
