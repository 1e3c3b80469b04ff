# Two commands do everything: `make qualify` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINES := $(VENV)/engines
MODEL := suites/models/tiny-chat
LLAMA := $(ENGINES)/llama_cpp-0.3.36
TRANSFORMERS := $(ENGINES)/transformers-5.19.0
PIP_QUIET := --quiet --disable-pip-version-check

# llama.cpp is compiled on the spot: only the library, for this machine's instruction set.
LLAMA_FLAGS := -DLLAVA_BUILD=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
	-DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_CURL=OFF

.PHONY: qualify test lint variants engines setup clean help

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

qualify: $(VENV)/.base $(LLAMA)/.done variants ## qualify llama.cpp on the shipped model
	$(BIN)/fleetqual run infra/matrices/smoke.yaml

test: $(VENV)/.dev $(LLAMA)/.done $(TRANSFORMERS)/.done variants ## run all tests on real engines
	$(BIN)/pytest --cov --cov-report=term:skip-covered

lint: $(VENV)/.dev ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(VENV)/.base ## the base install alone
engines: $(LLAMA)/.done $(TRANSFORMERS)/.done ## environments of both engines

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

$(LLAMA)/.done: infra/engines/llama_cpp.txt | $(VENV)/.base
	test -x $(LLAMA)/bin/python || $(PYTHON) -m venv $(LLAMA)
	CMAKE_ARGS="$(LLAMA_FLAGS)" $(LLAMA)/bin/pip install $(PIP_QUIET) -r $<
	touch $@

$(TRANSFORMERS)/.done: infra/engines/transformers.txt | $(VENV)/.base
	test -x $(TRANSFORMERS)/bin/python || $(PYTHON) -m venv $(TRANSFORMERS)
	$(TRANSFORMERS)/bin/pip install $(PIP_QUIET) -r $<
	touch $@

clean: ## remove the environments and the made variants
	rm -rf $(VENV) $(MODEL)/tiny-chat-f16.gguf $(MODEL)/tiny-chat-bf16.gguf \
		$(MODEL)/tiny-chat-q8_0.gguf
