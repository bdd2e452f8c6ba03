# make probe   environment on first use, then what ImageNet weights know of each object of the
#              embedded mini data, next to fresh weights, three seeds each
# make coco    environment on first use, then three fresh networks on the embedded mini data
# make test    environment on first use, then the fast tests
VENV ?= .venv
PYTHON ?= python3.11
BIN = $(VENV)/bin
READY = $(VENV)/backbench-ready

.PHONY: probe coco test test-all test-gpu lint format bench lock setup clean
.DELETE_ON_ERROR:

probe: $(READY)
	$(BIN)/python benchmarks/run.py --suite coco --tasks regions --seeds 3 \
		--entries efficientnet-lite0,random:efficientnet-lite0

coco: $(READY)
	$(BIN)/python benchmarks/run.py --suite coco --entries vit-nano,swin-nano,resnet-nano

# One thread a process: two test processes on two cores would otherwise spin against each other.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu"

test-all: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not gpu"

# On the GPUs of this machine; without any, in a stand-in whose operators the CPU carries out.
test-gpu: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.gpu.stand_in --if-needed \
		$(BIN)/python -m pytest -m gpu tests/gpu

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	@for file in benchmarks/perf/*_speed.py; do \
		echo "== $$file"; $(BIN)/python $$file || exit 1; done

setup: $(READY)

# A detectron2 that the environment already has is used as it is. Ours is unpacked, not built: the
# platform options make pip take the one wheel there is, whose Python sources are all that is needed.
$(READY): requirements.lock detectron2.lock pretrained.lock setup.cfg pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Needs $(PYTHON); name another with PYTHON=…" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements.lock
	$(BIN)/python -c "import detectron2" 2>/dev/null || \
		$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --require-hashes \
		--only-binary=:all: --python-version 3.10 --implementation cp --abi none --platform any \
		--target "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
		-r detectron2.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --require-hashes -r pretrained.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	touch $@

lock: $(READY)
	{ head -2 requirements.lock; $(BIN)/python -m pip freeze --all --exclude-editable --exclude pip \
		| grep -viE "^(nvidia|cuda|triton|sal-detectron2|detectron2|efficientnet)" | sort -f; } > requirements.new
	mv requirements.new requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info
