# phf: everything a fresh machine needs, with Python >= 3.11 and make.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/pip --disable-pip-version-check
PHF := $(VENV)/bin/phf

.PHONY: help venv demo demo-all demo-pep8 test test-integrations test-slow test-browser lint docs dist bench attack clean

help:  ## Show what there is to make
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: $(VENV)/.installed  ## Install phf with all extras into .venv

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "phf needs Python >= 3.11, found " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[all,dev,docs]'
	@touch $@

demo: venv  ## Train MLE and conditional on this machine's documentation, and compare them
	$(PHF) demo

demo-all: venv  ## The same with all six objectives
	$(PHF) demo --all

demo-pep8: venv  ## The same with Python source and pycodestyle
	$(PHF) run pep8-demo --only mle --only conditional

test: venv  ## Run the test suite, in two processes
	$(VENV)/bin/pytest -n 2 --dist worksteal

test-slow: venv  ## Run the slow tests too
	$(VENV)/bin/pytest -m 'slow or not slow'

test-integrations: venv  ## Install Megatron, TRL and MLflow into an environment of their own, and have them read what phf writes
	$(PYTHON) -m venv $(VENV)-integrations
	$(VENV)-integrations/bin/pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	$(VENV)-integrations/bin/pip install --quiet --no-deps megatron-core trl
	$(VENV)-integrations/bin/pip install --quiet mlflow-skinny
	$(VENV)-integrations/bin/pytest tests/integrations tests/export tests/push tests/trackers

test-browser: venv  ## Install Chromium (apt-get, as root) and axe-core (npm), and try the report's page in them
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends chromium chromium-driver
	npm install --silent --no-audit --no-fund --prefix $(VENV)/browser axe-core@4.14.1
	PHF_AXE=$(VENV)/browser/node_modules/axe-core/axe.min.js $(VENV)/bin/pytest -m slow tests/report/test_browser.py

lint: venv  ## Lint, check formatting, types, layers and spelling
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/codespell

docs: venv  ## Build the documentation site into build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --site-dir build/site

dist: venv  ## Build the wheel and the source distribution into dist/, and check them
	rm -rf dist
	$(VENV)/bin/python -m build --no-isolation --outdir dist
	$(VENV)/bin/twine check --strict dist/*

bench: venv  ## Measure speed and memory against the alternatives; rows go to results/
	$(VENV)/bin/python benchmarks/run.py

attack: venv  ## Attack phf: mutated inputs, kills, damaged files, two at once, break-outs (not in CI)
	$(VENV)/bin/python -m attacks

clean:  ## Delete what the demos wrote
	rm -rf work
