# All targets use `.venv`, which is created on first use. Packages are installed again only when pyproject.toml or
# constraints.txt is newer than the stamps below.
PYTHON ?= python3
PIP_FLAGS ?=
# One worker per core (one more gained nothing). Whole files stay on one worker, so that expensive fixtures are built
# once, in the order set by tests/conftest.py.
PYTEST_FLAGS ?= -n auto --dist loadfile --no-loadscope-reorder
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt

DEMO_IMAGE := examples/ladybug.png

.PHONY: help demo test test-browser check format bench clean

help:
	@echo "make demo    generate a video from a prompt and one from an image, in demo/"
	@echo "make test    run the tests"
	@echo "make test-browser  run the tests that open pages in Chromium"
	@echo "make check   check format, lint, types, import rules, spelling and prose"
	@echo "make bench   measure speed and memory, in bench/ (half an hour)"
	@echo "make format  format the files as 'make check' expects"
	@echo "make clean   delete everything that these commands created, including .venv"
	@echo "PYTHON=...   interpreter for a new .venv; PIP_FLAGS=... extra flags for pip install"

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.created
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/.created
	$(PIP_INSTALL) -e '.[dev]'
	@touch $(VENV)/.installed $@

demo: $(VENV)/.installed
	@mkdir -p demo
	$(BIN)/videocrafter generate "a rocket flying up over a green meadow" \
		--seed 1 --contact-sheet demo/rocket.png --overwrite -o demo/rocket.mp4
	$(BIN)/videocrafter generate "a ladybug is flying left on a brick wall" --image $(DEMO_IMAGE) \
		--seed 1 --contact-sheet demo/ladybug.png --overwrite -o demo/ladybug.mp4

# Containers often disable bytecode, and then every process that a test starts would compile the package again.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

$(VENV)/.installed-browser: $(VENV)/.installed-dev
	$(PIP_INSTALL) -e '.[dev,browser]'
	@touch $@

# The browser comes from the system: `apt install chromium`, or name another one in VIDEOCRAFTER_BROWSER.
test-browser: export PYTHONDONTWRITEBYTECODE :=
test-browser: $(VENV)/.installed-browser
	$(BIN)/python -m pytest -m browser tests/browser

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m pytest -q -n 0 tests/contracts/test_prose.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# These benchmarks need no GPU and no download.
bench: $(VENV)/.installed-dev
	rm -rf bench
	for name in operations operators temporal_attention generation generation_memory; do \
		$(BIN)/python -m benchmarks.$$name --output bench/$$name || exit 1; \
	done

clean:
	rm -rf $(VENV) bench demo build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
