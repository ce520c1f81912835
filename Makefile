# Two commands do all the set-up on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CLIPS ?= ../shared/clips
STORES ?= demo/out/store
OUT ?= demo/out/results
JOBS ?= $(shell nproc)
PROTOCOLS ?=
AUDITS ?= $(if $(filter demo/out/store,$(STORES)),demo/out/audit-a.json demo/out/audit-b.json)

.DELETE_ON_ERROR:
.PHONY: install demo tables figures report test lint real bench clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,demo]'
	touch $@

demo: $(READY)  ## the whole path on rendered data: no weights, no data to download; one thread to a process, as in test
	OMP_NUM_THREADS=1 $(BIN)/python -m demo.run

tables: $(READY) $(addsuffix /zarr.json,$(STORES))  ## make tables STORES="one two" OUT=folder PROTOCOLS="table2 figure5"
	$(BIN)/probes run $(PROTOCOLS) $(addprefix --stores ,$(STORES)) --out $(OUT) --jobs $(JOBS) || [ $$? -eq 3 ]
	$(BIN)/probes table $(PROTOCOLS) --out $(OUT)

figures: tables  ## PNG, SVG and PDF of the same; what cannot be drawn is named
	$(BIN)/probes figure $(PROTOCOLS) $(addprefix --stores ,$(STORES)) --out $(OUT) || [ $$? -eq 3 ]

report: figures $(AUDITS)  ## one page of the same; AUDITS="one.json" of avfeat manifest audit --json
	$(BIN)/probes report $(PROTOCOLS) $(addprefix --stores ,$(STORES)) --out $(OUT) $(addprefix --audit ,$(AUDITS))

demo/out/audit-%.json: demo/out/store/zarr.json
	$(BIN)/avfeat manifest audit demo/out/demo-$*.parquet --json > $@

demo/out/store/zarr.json: | $(READY)
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
