# Every target does all of its own set-up, in $(VENV), pinned by constraints.txt.
#   make demo    the main job on the shipped heads, ending with the report's path
#   make test    the tests            make lint    format, lint and type checks
# Another interpreter: make PYTHON=/path/to/python3.12 demo

PYTHON ?= python3 python3.13 python3.12 python3.11 python3.10
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_OUT ?= runs/demo
DEMO_PRESET ?= heads64-demo

RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
PYTORCH3D := $(VENV)-pytorch3d/.installed
INPUTS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-pytorch3d lint format install clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,5p'

demo: $(RUNTIME)
	@rm -rf $(DEMO_OUT)
	$(BIN)/gan2shape reconstruct examples/heads64 --gan heads64 --preset $(DEMO_PRESET) --out $(DEMO_OUT)

test: $(DEV)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The renderer against pytorch3d, whose wheel needs another torch: an environment of its own.
test-pytorch3d: $(PYTORCH3D)
	$(VENV)-pytorch3d/bin/python -m pytest tests/pipeline/test_render_pytorch3d.py $(PYTEST_ARGS)

install: $(RUNTIME)
	@:

clean:
	rm -rf $(VENV) $(VENV)-pytorch3d

# The stamps are removed first, so that an installation cut short never passes for a finished one.
$(RUNTIME): $(INPUTS)
	@rm -f $@
	@PYTHON="$(PYTHON)" sh tools/install.sh $(VENV) constraints.txt -e .
	@touch $@

$(DEV): $(INPUTS) | $(RUNTIME)
	@rm -f $(RUNTIME) $@
	@PYTHON="$(PYTHON)" sh tools/install.sh $(VENV) constraints.txt -e '.[dev,synth]'
	@touch $(RUNTIME) $@

$(PYTORCH3D): pyproject.toml constraints-cuda.txt
	@rm -f $@
	@PYTHON="$(PYTHON)" sh tools/install.sh $(VENV)-pytorch3d constraints-cuda.txt \
		-e . pytest hypothesis easypytorch3d
	@touch $@
