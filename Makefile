# Two commands do all the set-up on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CLIPS ?= ../shared/clips

.PHONY: install demo test lint real bench clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,demo]'
	touch $@

demo: $(READY)  ## the whole path on rendered data: no weights, no data to download; one thread to a process, as in test
	OMP_NUM_THREADS=1 $(BIN)/python -m demo.run

test: $(READY)  ## one thread to a process: the processes already fill the cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

real: $(READY)  ## make real CLIPS=folder: manifest, extract, status on real files
	$(BIN)/python -m demo.real $(CLIPS)

bench: $(READY)
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) demo/out real bench/out
