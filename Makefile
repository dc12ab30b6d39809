# Two commands matter: `make demo` and `make test`. Both build .venv when it is missing.
V := .venv
PYTHON ?= python3
TORCH_PIP_ARGS ?=            # choose a CPU or CUDA build of torch here; nothing is chosen for you
SHELL := /bin/bash
export MLFLOW_DISABLE_TELEMETRY ?= true

.PHONY: demo test test-slow check lock experiments experiments-quick clean

demo: $(V)/.ok
	$(V)/bin/recil demo

# Two processes of one thread each: threads of both would wait for each other.
test: $(V)/.ok
	OMP_NUM_THREADS=1 $(V)/bin/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(V)/.ok
	$(V)/bin/python -m pytest -m slow

check: $(V)/.ok
	$(V)/bin/ruff check .
	$(V)/bin/ruff format --check .
	$(V)/bin/mypy

# torch comes first and alone: its build (CPU, CUDA) is the user's choice. The rest is pinned and installed
# with --no-deps, because recsim-ng declares TensorFlow and JAX and only its plain-Python core is used.
$(V)/.ok: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(V)
	$(V)/bin/python -m pip install -q --disable-pip-version-check $(TORCH_PIP_ARGS) "torch==2.13.0"
	$(V)/bin/python -m pip install -q --disable-pip-version-check --no-deps -r requirements.lock
	$(V)/bin/python -m pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

# Needs uv; keeps registry addresses and hashes out of what is committed.
lock:
	uv lock -q --upgrade
	uv export -q --no-hashes --no-annotate --no-header --no-emit-project --group test --prune torch -o requirements.lock
	rm -f uv.lock

# What is finished is skipped, what was broken off is gone on with; the pages are written out of MLflow.
experiments: $(V)/.ok
	$(V)/bin/recil run experiments
	$(V)/bin/recil report experiments

experiments-quick: $(V)/.ok
	$(V)/bin/recil run experiments --size quick
	$(V)/bin/recil report experiments --size quick

clean:
	rm -rf $(V) build *.egg-info
