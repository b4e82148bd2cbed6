# The two commands: `make reproduce` and `make test`. The rest is for those who work on siamura.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help reproduce test slow lint bench docs coverage clean

help:  ## list the commands
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

reproduce: $(VENV)/.core  ## set up, then run the finger experiment on phantoms
	$(BIN)/python examples/finger_tfl.py --out runs/finger_tfl --overwrite

test: $(VENV)/.test  ## set up, then run the tests
	$(BIN)/python -m pytest

slow: $(VENV)/.test  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: setup.cfg pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing siamura into $(VENV) (torch is large: a minute or two) ..."
	$(PIP) --upgrade pip
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) -e ".[test,app,dicom,timm,onnx,tensorboard]"
	@touch $@

clean:  ## remove what was built and cached, not the environment
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
