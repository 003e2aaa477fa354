# make demo       install into .venv, train DCGAN, D3GAN and their controlled pair on MNIST, compare them on a page
# make test       install into .venv, run the tests, one process per core
# make test-slow  the tests that take longer
# make test-wheel build the wheel, install it away from the checkout, use it
# make test-avx2  the tests that depend on rounding, as on a processor without AVX-512
# make check      ruff, ruff format --check, mypy, the order of the rooms
# make soak       two hours of damaged files, kills, full disks and interrupts (docs/reliability.md)
# make docs       build the documentation site, in site/
# make docs-serve show the site while you write
# make tutorials  run the notebooks of docs/tutorials and keep their outputs
# make test-docs  the site in a browser, and the tutorials
# make clean      remove .venv and the caches

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python -m
# An editable install: change a line of src/d3gan, run again, see what it does.
INSTALL = $(RUN) pip install --quiet --constraint constraints.txt

# Plain make starts nothing: it prints the lines at the top of this file.
.PHONY: help
help:
	@sed -n 's/^# make/make/p' Makefile

.PHONY: demo test test-avx2 test-slow test-wheel test-docs docs docs-serve tutorials soak check clean

# Two runs at a time: in this order both finish at about the same time.
demo: $(VENV)/.demo
	@$(RUN) d3gan compare --preset mnist-demo --out runs/demo --seeds 0 \
		--models dcgan d3gan d3gan-controlled dcgan-controlled

# One process per core, with one thread each.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(RUN) pytest -m "not slow and not wheel" -n auto --dist worksteal

# Processors without AVX-512 add up in another order: what depends on that, as they compute it.
test-avx2: $(VENV)/.test
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(RUN) pytest -m "not slow" -n auto \
		--dist worksteal tests/models tests/training/test_step.py tests/training/test_loop.py tests/evaluation/metrics

test-slow: $(VENV)/.test
	$(RUN) pytest -m slow

test-wheel: $(VENV)/.package
	$(RUN) pytest -m wheel

# A notice of mkdocs-material about another program is left out.
MKDOCS = NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs

docs: $(VENV)/.docs
	$(MKDOCS) build --strict --quiet
	@echo "open site/index.html"

docs-serve: $(VENV)/.docs
	$(MKDOCS) serve

# Every page in a browser, every link, every notebook from its first cell to its last.
test-docs: $(VENV)/.docs
	$(RUN) pytest tests/docs --durations=8

# Runs all notebooks and keeps what they print and draw.
tutorials: $(VENV)/.docs
	$(VENV)/bin/python docs/theme/execute_tutorials.py

SOAK ?= --count 1000000 --seed 0 --keep soak-findings

soak: $(VENV)/.test
	OMP_NUM_THREADS=1 $(RUN) tests.soak.readers $(SOAK)
	OMP_NUM_THREADS=1 $(RUN) tests.soak.faults

check: $(VENV)/.test
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "d3gan needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing d3gan into $(VENV), once"
	@$(INSTALL) --editable '.[offline]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[test,check]'
	@touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/.test
	$(INSTALL) --editable '.[test,docs]'
	@touch $@

$(VENV)/.package: pyproject.toml constraints.txt | $(VENV)/.test
	$(INSTALL) --editable '.[test,package]'
	@touch $@

clean:
	rm -rf site $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
