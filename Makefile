# make train and make test do everything on a machine with Python, a C compiler and make.
# Options of the programs go through ARGS:  make train ARGS="--epochs 1"   make test ARGS="-k conv2d"

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# What `make bench` installs besides minidl: PyTorch, which the benchmarks compare with, and JAX (in bench), without
# which its column stays empty: BENCH_EXTRAS=torch where it cannot be installed.
BENCH_EXTRAS ?= bench,torch

python := $(VENV)/bin/python
pip := $(python) -m pip --disable-pip-version-check
sources := setup.py pyproject.toml $(wildcard minidl/_ext/*.pyx minidl/_ext/*.pxi minidl/_ext/*.pxd minidl/_ext/*.h minidl/_ext/*.c)
build_requires := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")

.PHONY: train explain test bench lint build sanitize gpu-test gpu-bench find-gpu clean

train: $(VENV)/.with-plot
	$(python) examples/train_lenet.py $(ARGS)

# Writes conv.html and opens it: LeNet as `make train` left it, or where it did not, trained now for some seconds.
explain: $(VENV)/.built
	$(python) -m minidl.explain --open $(ARGS)

test: $(VENV)/.with-test
	$(python) -m pytest $(ARGS)

bench: $(VENV)/.with-$(BENCH_EXTRAS)
	$(python) -m benchmarks $(ARGS)

lint: $(VENV)/.with-lint
	$(python) -m ruff check .
	$(python) -m mypy

# What has to be seen on a real GPU: the same tests that the emulated one passes everywhere.  Ten minutes at most.
gpu-test: find-gpu $(VENV)/.with-cuda $(VENV)/.with-test
	$(python) -m minidl.cuda build
	MINIDL_TEST_GPU=real $(python) -m pytest -m cuda $(ARGS)

# Figures of a real GPU, beside PyTorch where it can be installed: its columns stay empty elsewhere.  Ten minutes at most.
# Figures of a whole run are kept.
gpu-bench: find-gpu $(VENV)/.with-cuda
	@$(MAKE) --no-print-directory $(VENV)/.with-torch || echo "make: PyTorch cannot be installed; its columns stay empty"
	$(python) -m minidl.cuda build
	$(python) -m benchmarks.gpu $(if $(ARGS),,--json benchmarks/results/gpu.json) $(ARGS)

# Before anything is installed for it.
find-gpu:
	@$(PYTHON) tools/find_gpu.py

# Compiles what has changed, also where only MINIDL_BLAS, MINIDL_CHECKS or MINIDL_SANITIZE has.
build: $(VENV)/.requires
	@rm -f $(VENV)/.built
	@$(MAKE) --no-print-directory $(VENV)/.built

sanitize: $(VENV)/.with-test
	MINIDL_SANITIZE=address,undefined MINIDL_CHECKS=1 $(MAKE) --no-print-directory build
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 $(python) -m pytest $(ARGS)
	@rm -f $(VENV)/.built

clean:
	rm -rf build dist conv.html $(VENV) *.egg-info minidl/_libs minidl/_ext/*.so .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment and what building needs; then the package, editable; then the extras, each a stamp file.
$(VENV)/.requires: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not there: install Python 3.11 or newer" \
	  "(Debian/Ubuntu: sudo apt install python3 python3-venv python3-dev; Fedora: sudo dnf install python3-devel;" \
	  "macOS: brew install python) or name one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) tools/toolchain.py
	$(PYTHON) -m venv $(VENV)
	$(python) -c '$(build_requires)' | $(pip) install -q -r /dev/stdin
	@touch $@

$(VENV)/.built: $(VENV)/.requires $(sources)
	@$(PYTHON) tools/toolchain.py
	$(pip) install -q --no-build-isolation -e .
	@touch $@

$(VENV)/.with-%: $(VENV)/.built
	$(pip) install -q "minidl[$*]"
	@touch $@
