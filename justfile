# Tasks of a developer; `just` alone lists them. Get it by `pip install rust-just` or your package manager.

python := ".venv/bin/python"
pytest := python + " -m pytest -n 2 --dist loadfile"

_list:
    @just --list

# Make .venv with everything that development needs
setup:
    python3 -m venv .venv
    .venv/bin/pip install -r requirements-dev.txt -e .

# The quick lane: no browser, nothing slow
test *arguments:
    {{ pytest }} -m "not browser and not slow" {{ arguments }}

# What drives Chromium
test-browser *arguments:
    RAD3D_TEST_BROWSER=required {{ pytest }} -m browser {{ arguments }}

# Everything, as CI runs it
test-all *arguments:
    RAD3D_TEST_SLOW=1 {{ pytest }} {{ arguments }}

# Style and types
lint:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy

# The pages as a web site, in site/
docs:
    .venv/bin/mkdocs build --strict
