# make demo   install into .venv, train D3GAN and DCGAN on MNIST, show where the digits are
# make test   install into .venv, run the tests (those marked slow: make test-slow)
# make check  ruff, ruff format --check, mypy

PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python -m
# An editable install: change a line of src/d3gan, run again, see what it does.
INSTALL = $(RUN) pip install --quiet --constraint constraints.txt

.PHONY: demo test test-slow check clean

# One thread: networks this small gain little from a second one, and where another program wants a core, two threads
# that wait for each other at every layer are many times slower than one (docs/performance.md).
demo: export OMP_NUM_THREADS ?= 1
demo: $(VENV)/.demo
	@echo "1 of 2: D3GAN, two discriminators"
	@$(RUN) d3gan train --config presets/mnist-demo.ini --model d3gan --out runs/demo-d3gan
	@echo "2 of 2: DCGAN, one discriminator"
	@$(RUN) d3gan train --config presets/mnist-demo.ini --model dcgan --out runs/demo-dcgan
	@for model in d3gan dcgan; do \
		$(RUN) d3gan sample runs/demo-$$model --scale 4 > /dev/null && \
		$(RUN) d3gan sample runs/demo-$$model --animate > /dev/null || exit 1; done
	@echo
	@echo "Digits drawn by the generators, and how they came to draw them:"
	@for model in d3gan dcgan; do \
		echo "  $(CURDIR)/runs/demo-$$model/grid.png  $(CURDIR)/runs/demo-$$model/animation.gif"; done

test: $(VENV)/.test
	$(RUN) pytest -m "not slow"

test-slow: $(VENV)/.test
	$(RUN) pytest -m slow

check: $(VENV)/.test
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

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

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
