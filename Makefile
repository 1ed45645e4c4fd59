# Everything a developer or a machine does with the project. Needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_ARGS ?=
TEST_ARGS ?=
RELEASE_ARGS ?=
# What mostly runs the program in other processes, or not at all: to measure its coverage would double the time.
UNMEASURED := $(addprefix tests/,browser canary helm kills replicas servers shipping)

.PHONY: demo test check format image-test release lock bench bench-record networks kills mutants openapi schema statements clean

demo: $(VENV)/.run ## simulator, gateway, a few calls, then serve until Ctrl-C
	$(BIN)/flxpoint-gateway demo $(DEMO_ARGS)

test: $(VENV)/.dev ## the whole test suite, with coverage of what doesn't mostly run in other processes
	$(BIN)/python -m pytest $(TEST_ARGS) $(UNMEASURED)
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(TEST_ARGS) $(addprefix --ignore=,$(UNMEASURED))
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(VENV)/.dev ## style, types, imports, Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile

format: $(VENV)/.dev ## put the code into its form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

image-test: $(VENV)/.dev ## build the image and pass the demo's calls with it; as root, on Debian
	$(BIN)/python -m shipping.image_test

release: $(VENV)/.dev ## wheel, chart and image of one version, into dist/; RELEASE_ARGS=--without-image leaves the last out
	$(BIN)/python -m shipping.release $(RELEASE_ARGS)

bench: $(VENV)/.dev ## the figures in README, measured here and now
	$(BIN)/python -m benchmarks

bench-record: $(VENV)/.dev ## reading a record of ten million: takes ten minutes, and 15 GB in the temporary folder
	$(BIN)/python -m benchmarks history

networks: $(VENV)/.dev ## the pacing rule in simulated time: 1,000 runs over each of six networks
	$(BIN)/python -m benchmarks.networks

kills: $(VENV)/.dev ## kill a gateway under load fifty times, and amid batches ten times, and see that nothing is lost
	KILLS=$${KILLS:-50} JOB_KILLS=$${JOB_KILLS:-10} $(BIN)/python -m pytest -n0 -s tests/kills

mutants: $(VENV)-mutants/.done ## mutation testing of dispatch's pure core; docs/mutants.md explains those that live
	$(VENV)-mutants/bin/mutmut run
	$(VENV)-mutants/bin/mutmut results

openapi: $(VENV)/.run ## write our own API's description anew
	$(BIN)/flxpoint-gateway openapi --output openapi/gateway.json

schema: $(VENV)/.run ## write the records' JSON Schema anew
	$(BIN)/python -m app.audit.records > docs/audit.schema.json

statements: $(VENV)/.dev ## keep what the code executes on the newest schema, before a migration is written (docs/upgrades.md)
	$(BIN)/python -m tests.storage.tour

lock: ## compile the locks anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --extra dev pyproject.toml -o requirements-dev.lock

clean: ## remove what the targets above made
	rm -rf $(VENV) $(VENV)-mutants dist mutants .peers .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

# The project itself is not installed here: mutmut imports its own copy.
$(VENV)-mutants/.done: requirements-dev.lock
	$(PYTHON) -m venv $(VENV)-mutants
	$(VENV)-mutants/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(VENV)-mutants/bin/python -m pip install --quiet --disable-pip-version-check mutmut==3.8.1
	touch $@
