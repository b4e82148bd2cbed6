# The two commands: `make reproduce` and `make test`. The rest is for those who work on siamura.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help reproduce test slow tables tree lint real bench docs coverage clean

help:  ## list the commands
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

reproduce: $(VENV)/.core  ## set up, then run the finger experiment on phantoms
	$(BIN)/python examples/finger_tfl.py --out runs/finger_tfl --overwrite

# One thread a process, as several processes share the cores; a file's tests stay together, as they share what is set up.
WORKERS ?= 2
PARALLEL = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
test: $(VENV)/.test  ## set up, then run the tests
	$(PARALLEL)

slow: $(VENV)/.test  ## the tests that take minutes
	$(PARALLEL) -m slow

tables: $(VENV)/.test  ## every published table on phantoms, in its quick setting: half an hour
	$(BIN)/python -m pytest -m tables

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: setup.cfg pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing siamura into $(VENV) (torch is large: a minute or two) ..."
	$(PIP) --upgrade pip
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) -e ".[test,app,dicom,timm,onnx,tensorboard,hub,tables,postgres]"
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP) -e ".[lint]"
	@touch $@

$(VENV)/.docs: $(VENV)/.test
	$(PIP) -e ".[docs]"
	@touch $@

# mypy and import-linter read folders, not setup.cfg's mapping: show them the package as it is installed.
TREE = build/tree
tree:
	@rm -rf $(TREE) && mkdir -p $(TREE)/siamura
	@ln -s $(CURDIR)/siamura/* $(CURDIR)/losses $(CURDIR)/samplers $(TREE)/siamura/

lint: $(VENV)/.lint tree  ## ruff, mypy, who may import whom, links in the docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(TREE) && $(abspath $(BIN))/mypy --config-file $(CURDIR)/setup.cfg -p siamura
	cd $(TREE) && PYTHONPATH=. $(abspath $(BIN))/lint-imports --config $(CURDIR)/setup.cfg --no-cache
	$(BIN)/python docs/check_links.py

DATA    ?= ../shared/fracatlas
WEIGHTS ?= ../shared/weights/tf_efficientnet_lite0.safetensors
real: $(VENV)/.test  ## accuracy on real bones (DATA=, WEIGHTS=; docs/real_bones.md): hours on 2 cores, minutes on a GPU
	@test -f $(DATA)/films.csv || { echo "$(DATA)/films.csv is missing: docs/real_bones.md says how to get FracAtlas"; exit 2; }
	$(BIN)/python -m benchmarks.real_bones $(DATA) $(WEIGHTS)

bench: $(VENV)/.test  ## every speed claim, beside a peer, in one table
	$(BIN)/python -m benchmarks

coverage: $(VENV)/.test  ## branch coverage of the tests
	$(BIN)/python -m pytest --cov=siamura --cov=losses --cov=samplers --cov-branch --cov-report=term-missing:skip-covered

docs: $(VENV)/.docs  ## the documentation, without warnings
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

clean:  ## remove what was built and cached, not the environment
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
