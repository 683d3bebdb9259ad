# Everything here works in `.venv`, which is made on first use. Nothing is installed twice:
# the stamps below are older than what they depend on only after pyproject.toml or constraints.txt changed.
PYTHON ?= python3
PIP_FLAGS ?=
# One worker per core (one more gained nothing); whole files stay together, so that costly fixtures are built once,
# in the order that tests/conftest.py gives.
PYTEST_FLAGS ?= -n auto --dist loadfile --no-loadscope-reorder
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt

DEMO_IMAGE := examples/butterfly.png

.PHONY: help demo test check format clean

help:
	@echo "make demo    a video from a prompt and one from an image, in demo/"
	@echo "make test    the tests"
	@echo "make check   format, lint, types, import rules, spelling"
	@echo "make format  rewrite the files as 'make check' wants them"
	@echo "make clean   remove what these commands made, .venv too"
	@echo "PYTHON=...   the interpreter that .venv is made with; PIP_FLAGS=... extra flags for pip install"

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
	$(BIN)/videocrafter generate "a rocket flying up over a blue sky" \
		--seed 1 --contact-sheet demo/rocket.png --overwrite -o demo/rocket.mp4
	$(BIN)/videocrafter generate "a butterfly flying left at sunset" --image $(DEMO_IMAGE) \
		--seed 1 --contact-sheet demo/butterfly.png --overwrite -o demo/butterfly.mp4

# Containers often forbid bytecode; then each of the many processes that tests start would compile the package again.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
