# Every target does all of its own set-up, in $(VENV), pinned by constraints.txt.
#   make demo    the main job on the shipped heads, ending with the report's path
#   make test    the quick tests      make lint    format, lint and type checks
#   make test-all  all tests: browsers and whatever else takes long too
#   make assets  remakes the packaged GAN, priors and networks from nothing, into $(ASSETS_OUT):
#                some hours on two cores; resumable, each part is skipped once it is done
# Another interpreter: make PYTHON=/path/to/python3.12 demo

PYTHON ?= python3 python3.13 python3.12 python3.11
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_OUT ?= runs/demo
DEMO_RECIPE ?= forward
ASSETS_OUT ?= runs/assets
ASSETS := gan2shape/assets/heads64

RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
PYTORCH3D := $(VENV)-pytorch3d/.installed
INPUTS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo assets test test-all test-pytorch3d lint format install clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,7p'

demo: $(RUNTIME)
	@rm -rf $(DEMO_OUT)
	$(BIN)/gan2shape reconstruct examples/heads64 --model heads64 --recipe $(DEMO_RECIPE) \
		--out $(DEMO_OUT)

# Each command goes on where it was; the stamps say which are finished.
assets: $(ASSETS_OUT)/.networks
	$(BIN)/python tools/assets.py $(ASSETS_OUT) $(ASSETS)

$(ASSETS_OUT)/.train: | $(DEV)
	$(BIN)/gan2shape synth heads --out $(ASSETS_OUT)/train --count 16000 --split train
	@touch $@

# Most images at a learning rate that learns fast, the last ones at one that settles.
$(ASSETS_OUT)/.gan: $(ASSETS_OUT)/.train
	$(BIN)/gan2shape train gan $(ASSETS_OUT)/train --out $(ASSETS_OUT)/gan --images 160000 --ema-half-life 4000
	$(BIN)/gan2shape train gan $(ASSETS_OUT)/train --out $(ASSETS_OUT)/gan --images 200000 --learning-rate 0.001
	$(BIN)/gan2shape gan convert $(ASSETS_OUT)/gan/gan.safetensors $(ASSETS_OUT)/heads64.safetensors --half
	@touch $@

$(ASSETS_OUT)/.priors: $(ASSETS_OUT)/.gan
	$(BIN)/gan2shape train priors $(ASSETS_OUT)/train --gan $(ASSETS_OUT)/heads64.safetensors \
		--category heads --out $(ASSETS_OUT)/priors
	@touch $@

$(ASSETS_OUT)/.joint: $(ASSETS_OUT)/.priors
	$(BIN)/gan2shape train networks $(ASSETS_OUT)/train --gan $(ASSETS_OUT)/heads64.safetensors \
		--category heads --priors $(ASSETS_OUT)/priors/priors.yaml --out $(ASSETS_OUT)/joint
	@touch $@

$(ASSETS_OUT)/.finetuned: $(ASSETS_OUT)/.joint
	$(BIN)/gan2shape train finetune $(ASSETS_OUT)/train --category heads --gan $(ASSETS_OUT)/heads64.safetensors \
		--networks $(ASSETS_OUT)/joint/networks.safetensors \
		--priors $(ASSETS_OUT)/priors/priors.yaml --out $(ASSETS_OUT)/finetuned
	@touch $@

# The teacher: wrong in other places than ours.
$(ASSETS_OUT)/.unsup3d: $(ASSETS_OUT)/.gan
	$(BIN)/gan2shape train unsup3d $(ASSETS_OUT)/train --gan $(ASSETS_OUT)/heads64.safetensors \
		--set networks.width=16 --batch 16 --learning-rate 0.0004 --warm-up 2000 \
		--set ellipsoid.near=0.944 --set ellipsoid.extent=1.1 \
		--decay 0.6 --images 80000 --precision float32 --out $(ASSETS_OUT)/unsup3d
	@touch $@

$(ASSETS_OUT)/.networks: $(ASSETS_OUT)/.finetuned $(ASSETS_OUT)/.unsup3d
	$(BIN)/gan2shape train finetune $(ASSETS_OUT)/train --category heads --gan $(ASSETS_OUT)/heads64.safetensors \
		--networks $(ASSETS_OUT)/finetuned/networks.safetensors \
		--teacher $(ASSETS_OUT)/unsup3d/networks.safetensors \
		--priors $(ASSETS_OUT)/priors/priors.yaml --set optimization.colour_symmetry=3 \
		--images 24000 --out $(ASSETS_OUT)/networks
	@touch $@

# A process for each core, each with one thread; tests of one file share what they set up.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test: $(DEV)
	$(TEST) -m "not slow" $(PYTEST_ARGS)

test-all: $(DEV)
	$(TEST) $(PYTEST_ARGS)

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The renderer against pytorch3d, whose wheel needs another torch: an environment of its own.
test-pytorch3d: $(PYTORCH3D)
	$(VENV)-pytorch3d/bin/python -m pytest tests/pipeline/scene/test_render_pytorch3d.py $(PYTEST_ARGS)

install: $(RUNTIME)
	@:

clean:
	rm -rf $(VENV) $(VENV)-pytorch3d

# The stamps are removed first, so that an installation cut short never passes for a finished one.
$(RUNTIME): $(INPUTS)
	@rm -f $@
	@PYTHON="$(PYTHON)" sh tools/install.sh $(VENV) constraints.txt -e .
	@touch $@

$(DEV): $(INPUTS)
	@rm -f $(RUNTIME) $@
	@PYTHON="$(PYTHON)" sh tools/install.sh $(VENV) constraints.txt -e '.[dev,synth]'
	@touch $(RUNTIME) $@

$(PYTORCH3D): pyproject.toml constraints-cuda.txt
	@rm -f $@
	@PYTHON="$(PYTHON)" sh tools/install.sh $(VENV)-pytorch3d constraints-cuda.txt \
		-e . pytest hypothesis easypytorch3d
	@touch $@
