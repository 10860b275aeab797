# Everything runs in .venv, which is made again when the dependencies change.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: report test slow check bench clean

report: $(READY)  ## count all four variants, print the table, write it, what attention costs and the whole page to reports/
	$(BIN)/mpvit flops --check
	$(BIN)/mpvit --quiet flops --check -o reports/flops.md
	$(BIN)/mpvit --quiet flops --check -o reports/flops.json
	$(BIN)/mpvit --quiet compare-attn -o reports/attention.md
	$(BIN)/mpvit --quiet compare-attn -o reports/attention.json
	$(BIN)/mpvit --quiet report --variant all --measure -o reports/report

test: $(READY)  ## the normal tests: under three minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile

slow: $(READY)  ## hundreds of random configurations, and a whole installation of the wheel
	$(BIN)/python -m pytest -m slow -n 2

check: $(READY)  ## the whole gate
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(MAKE) --no-print-directory test slow

bench: $(READY)  ## measure speed as ratios within one run, and write the table to reports/
	$(BIN)/python -m tests.benchmarks

$(READY): pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
