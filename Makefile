# make demo    servers, a sandbox of both venues and all stages, in one terminal
# make test    the test suite
# make check   style, types, import directions and repository rules
# make install just the virtual environment

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Tests spend most of their time waiting for servers and clocks: two files at a time.
WORKERS ?= 2

.PHONY: demo up test check install lock clean

demo: install
	@echo "starting vibe demo"
	@$(BIN)/vibe demo $(ARGS)

up: install
	@$(BIN)/vibe up $(ARGS)

test: install
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/pytest -q tests/test_repository_rules.py

# The pages are built anew when their sources have changed; VIBE_SKIP_UI=1 leaves them out.
install: $(STAMP)
	@$(BIN)/python hatch_build.py

$(STAMP): requirements.lock pyproject.toml hatch_build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) ops/install.py $(VENV)
	@touch $(STAMP)

# Needs uv. The files hold hashes only: no address of a package index.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-annotate --no-header --extra dev --quiet -o requirements.lock pyproject.toml
	$(BIN)/python ops/lock_pages.py

clean:
	rm -rf $(VENV) .vibe .pytest_cache .mypy_cache .ruff_cache
