# Every target sets itself up in .venv, and is quick when there is nothing to do.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: help setup demo test check format docs bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $@

setup: $(READY) ## install everything into .venv

demo: $(READY) ## train with and without atom modeling on handwritten digits, and write the report
	$(BIN)/latentia separate digits

test: $(READY) ## run the tests, a process for each core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist worksteal

check: $(READY) ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(READY) ## measure speed and memory, and print the tables of docs/benchmarks.md
	$(BIN)/python benchmarks/separation.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/bias.py
	$(BIN)/python benchmarks/alignment.py
	$(BIN)/python benchmarks/dictionaries.py

clean: ## remove what the targets made
	rm -rf $(VENV) site runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
