# The project's commands; `make help` lists them. Needs Linux, make, and Python 3.11 or newer with its venv module.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# This very version, so that the build without GPU libraries is taken where there is one; the package itself takes any from 2.6.
TORCH := torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: demo test test-all lint types bench validate docs clean help

demo: $(VENV)/core.stamp  ## fit the digits network to this machine and write demo-fit/report.html
	$(BIN)/dovetail optimize examples/digits/digits.onnx --data examples/digits/digits.npz --metric accuracy --max-drop 2pp --budget 120s --out demo-fit
	@echo "For these commands in this shell: . $(BIN)/activate"

test: $(VENV)/dev.stamp  ## run the tests
	$(BIN)/pytest -n 2

test-all: $(VENV)/dev.stamp  ## run the slow tests too
	$(BIN)/pytest -m ""

lint: $(VENV)/dev.stamp  ## check style and the import contract
	$(BIN)/ruff check
	$(BIN)/lint-imports

types: $(VENV)/dev.stamp  ## check types
	$(BIN)/mypy

bench: $(VENV)/dev.stamp  ## repeat the benchmarks (hours); rows go to benchmarks/results/
	for part in "honesty.py simulate" "honesty.py aa" overhead.py peers.py search_cost.py lowering.py predict_here.py; do $(BIN)/python benchmarks/$$part || exit; done

validate: $(VENV)/dev.stamp  ## compare predictions with published measurements; writes docs/accuracy.md
	$(BIN)/python benchmarks/validate.py

docs: $(VENV)/core.stamp  ## write docs/cli.md from the commands' help
	$(BIN)/python tools/cli_docs.py

clean:  ## remove what the other targets wrote, but for .venv
	rm -rf demo-fit .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks build dist
	find src tests benchmarks examples tools -name __pycache__ -prune -exec rm -rf {} +

help:  ## print this list
	@sed -nE 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

$(VENV)/core.stamp: pyproject.toml
	@echo "Installing into $(VENV); this takes a minute or two, once."
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	$(BIN)/pip install --quiet --editable '.[dev,torch]' $(TORCH)
	@touch $@
