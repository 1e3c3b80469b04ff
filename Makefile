# Two commands do everything: `make qualify` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINES := $(VENV)/engines
MODEL := suites/models/tiny-chat
LLAMA := $(ENGINES)/llama_cpp-0.3.36
TRANSFORMERS := $(ENGINES)/transformers-5.19.0
MLX := $(ENGINES)/mlx-0.32.2
EARLIER_MLX := $(ENGINES)/mlx-0.31.3
VLLM := $(ENGINES)/vllm-0.32.0
EARLIER_LLAMA := $(ENGINES)/llama_cpp-0.3.35
TESTED := $(LLAMA)/.done $(TRANSFORMERS)/.done $(MLX)/.done $(EARLIER_MLX)/.done
RECIPES := $(wildcard runner/engines/*/recipe.yaml runner/engines/*/pins/*)
# A file stays in one process, which shares its engines and runs; the longest files begin.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
PIP_QUIET := --quiet --disable-pip-version-check

.PHONY: qualify test bench coverage test-engines test-real mutants lint variants engines setup clean help

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

qualify: $(VENV)/.base $(LLAMA)/.done variants ## qualify llama.cpp on the shipped model
	$(BIN)/fleetqual run infra/matrices/smoke.yaml

test: $(VENV)/.dev $(TESTED) variants ## run the tests on real engines
	$(BIN)/pytest $(PARALLEL)

coverage: $(VENV)/.dev $(TESTED) variants ## run the tests and show the lines that none of them runs
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=term:skip-covered

test-engines: $(VENV)/.dev $(TESTED) $(VLLM)/.done $(EARLIER_LLAMA)/.done variants ## also the slow engines
	$(BIN)/pytest -m engines

test-real: $(VENV)/.dev $(TESTED) $(VENV)/real/.done variants ## also the tests on real models and templates
	$(BIN)/pytest -m real

bench: $(VENV)/.dev ## what a position of a reference costs, by vocabulary (ratios, seconds)
	$(BIN)/python -m tests.benchmarks.reference_numbers

mutants: $(VENV)/.dev ## change the judging code a little: does a test fail? (minutes; not in .ci/run)
	$(BIN)/python -m tests.mutants

lint: $(VENV)/.dev ## ruff, mypy --strict, import-linter, sqruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sqruff lint analysis/views

setup: $(VENV)/.base ## the base install alone
engines: $(TESTED) ## environments of the engines that the tests use

variants: $(MODEL)/tiny-chat-q8_0.gguf ## f16, bf16 and q8_0 files of the shipped model

$(MODEL)/tiny-chat-q8_0.gguf: $(MODEL)/make_variants.py $(MODEL)/model.safetensors | $(VENV)/.base
	$(BIN)/python $(MODEL)/make_variants.py

$(VENV)/.base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_QUIET) -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/pip install $(PIP_QUIET) -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/real/.done: tests/real/packages.txt tests/real/sources.txt | $(VENV)/.base
	$(BIN)/pip install $(PIP_QUIET) --no-deps --upgrade --target $(VENV)/real -r $<
	$(BIN)/pip download $(PIP_QUIET) --no-deps --no-binary :all: --dest $(VENV)/real \
		-r tests/real/sources.txt
	touch $@

# One rule for all: the name of the folder says which engine and version. An environment is made
# again only if its recipe has changed.
$(ENGINES)/%/.done: $(RECIPES) | $(VENV)/.base
	FLEETQUAL_ENVIRONMENTS=$(CURDIR)/$(ENGINES) $(BIN)/fleetqual engine install \
		$(subst -,==,$*) --backend cpu --replace
	touch $@

clean: ## remove the environments and the made variants
	rm -rf $(VENV) $(MODEL)/tiny-chat-f16.gguf $(MODEL)/tiny-chat-bf16.gguf \
		$(MODEL)/tiny-chat-q8_0.gguf
