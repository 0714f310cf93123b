# `make sweep` and `make test` set up everything they need in .venv: Python, make and a compiler
# are enough. PYTHON chooses the interpreter (3.10 or later).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: sweep test lint simulate faults fuzz scale static-all test-gpu bench clean

$(READY): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt setuptools wheel torch
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $(READY)

# Question, contenders and budget: scenarios/quickstart.toml. The report opens offline. A verdict
# withheld on a busy machine is a result, not a failure of make.
sweep: $(READY)
	$(BIN)/ssmprof --exit-zero sweep quickstart
	$(BIN)/ssmprof --exit-zero report

test: $(READY)
	$(BIN)/python -m pytest -q -m "not gpu and not jetson"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# Hundreds of deaths and errors, injected into real sweeps: about two minutes on two cores.
faults: $(READY)
	PYTHONPATH=.:kernels:tests $(BIN)/python tests/faults/run.py --output reports/faults/faults.json

# Ten thousand mutated inputs through every door (ten minutes): reports/faults/fuzz.json.
fuzz: $(READY)
	PYTHONPATH=.:kernels:tests $(BIN)/python -m fuzz.run

# What report, crossover and export take for runs of 1,000 to 100,000 outcomes, as a table.
scale: $(READY)
	PYTHONPATH=.:kernels:tests $(BIN)/python -m scale --output reports/scale

# Every dtype and option of every kernel, any three together, compiled for GPUs that need not be
# here; `make test` compiles any two together.
STATIC_ARCHS ?= sm_87 sm_90
static-all: $(READY)
	for arch in $(STATIC_ARCHS); do \
	  PYTHONPATH=kernels $(BIN)/python -m ssmprof_kernels.static --forms all --jobs 2 --arch $$arch || exit 1; \
	done

# How often answers are right: planted curves through the whole analysis (a minute or two).
simulate: $(READY)
	PYTHONPATH=.:tests $(BIN)/python -m simulations

# On a machine with a CUDA device, with the Python that holds its torch: make test-gpu GPU_PYTHON=...
GPU_PYTHON ?= python3
test-gpu:
	PYTHONPATH=.:kernels:tests $(GPU_PYTHON) -m pytest -q -m gpu tests

bench:
	PYTHONPATH=.:kernels $(GPU_PYTHON) kernels/benchmarks/run.py

clean:
	rm -rf $(VENV) build dist *.egg-info
