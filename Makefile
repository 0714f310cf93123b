# `make sweep` and `make test` set up what each of them needs in .venv: Python, make and a compiler
# are enough. PYTHON chooses the interpreter (3.10 or later).
PYTHON ?= python3
# The Python that holds the torch of a CUDA device.
GPU_PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV := $(VENV)/.dev

.PHONY: sweep test lint docs html install simulate truth faults fuzz scale fleet fleet-gpus static-all test-gpu bench clean

# What a sweep and its page need. torch by name: the extra leaves it out where boards have their own.
$(READY): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch -e ".[torch]"
	touch $(READY)

$(DEV): $(READY)
	$(BIN)/pip install -q -c constraints.txt -e ".[torch,dev,docs]"
	touch $(DEV)

# Question, contenders and budget: scenarios/quickstart.toml. The report opens offline. A verdict
# withheld on a busy machine is a result, not a failure of make.
sweep: $(READY)
	$(BIN)/ssmprof --exit-zero sweep quickstart
	$(BIN)/ssmprof --exit-zero report

test: $(DEV)
	$(BIN)/python -m pytest -q -m "not gpu and not jetson"

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# Writes into the documents what the code says and prints today; a test holds them together.
docs: $(DEV)
	$(BIN)/python docs/generate.py
	PYTHONPATH=.:kernels:tests $(BIN)/python -m transcripts

# The documents as HTML: a warning is an error.
html: $(DEV)
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs

# The built wheel in fresh environments, from a folder of wheels: pip, pipx, uvx, every Python here.
install: $(DEV)
	$(BIN)/python tests/install.py

# Hundreds of deaths and errors, injected into real sweeps: about two minutes on two cores.
faults: $(DEV)
	PYTHONPATH=.:kernels:tests $(BIN)/python tests/faults/run.py --output reports/faults/faults.json

# Ten thousand mutated inputs through every door (ten minutes): reports/faults/fuzz.json.
fuzz: $(DEV)
	PYTHONPATH=.:kernels:tests $(BIN)/python -m fuzz.run

# What report, crossover and export take for runs of 1,000 to 100,000 outcomes, as a table.
scale: $(DEV)
	PYTHONPATH=.:kernels:tests $(BIN)/python -m scale --output reports/scale

# A fleet without a GPU: 300 kills, a thousand virtual devices, a local sweep against one before the
# session (about 15 minutes): reports/fleet/fleet.json. `make fleet-gpus` adds one GPU of this host
# against several to it; GPU_PYTHON holds torch and ssmprof[fleet].
fleet: $(DEV)
	PYTHONPATH=.:kernels:tests $(BIN)/python -m fleet

fleet-gpus:
	PYTHONPATH=.:kernels:tests $(GPU_PYTHON) -m fleet.gpus

# Every dtype and option of every kernel, compiled for GPUs that need not be here, with the spills of
# each kernel: any two together for every architecture, any three for two of them; `make test`
# compiles any two for these two of the operations that most mixers use, each alone of the others.
STATIC_ARCHS ?= all
STATIC_DEEP ?= sm_87,sm_90
static-all: $(DEV)
	PYTHONPATH=kernels $(BIN)/python -m ssmprof_kernels.static --forms pairs --jobs 2 --summary --arch $(STATIC_ARCHS)
	PYTHONPATH=kernels $(BIN)/python -m ssmprof_kernels.static --forms all --jobs 2 --summary --arch $(STATIC_DEEP)

# How often answers are right: planted curves through the whole analysis (a minute or two).
simulate: $(DEV)
	PYTHONPATH=.:tests $(BIN)/python -m simulations

# How true the answers are: sweeps against dense references, as far as TRUTH_S seconds reach; the
# table grows where it stands. TRUTH_DEVICE=cpu measures what a CPU can tell.
TRUTH_S ?= 480
TRUTH_DEVICE ?= cuda
truth:
	PYTHONPATH=.:kernels:tests $(GPU_PYTHON) -m truth --device $(TRUTH_DEVICE) --seconds $(TRUTH_S)

# On a machine with a CUDA device: make test-gpu GPU_PYTHON=...
test-gpu:
	PYTHONPATH=.:kernels:tests $(GPU_PYTHON) -m pytest -q -m gpu tests

bench:
	PYTHONPATH=.:kernels $(GPU_PYTHON) kernels/benchmarks/run.py

clean:
	rm -rf $(VENV) build dist *.egg-info
