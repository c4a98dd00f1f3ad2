# Tasks of a developer; `just` alone lists them. Get it by `pip install rust-just` or your package manager.

venv := env("VIRTUAL_ENV", ".venv")
python := venv + "/bin/python"
uvx := venv + "/bin/uvx --quiet --system-certs"
pytest := python + " -m pytest -n 2 --dist loadfile"

_list:
    @just --list

# Make .venv with everything that development needs
setup:
    python3 -m venv .venv
    .venv/bin/pip install -r requirements-dev.txt -e .

# The quick lane: nothing slow, no browser, no app
test *arguments:
    {{ pytest }} -m "not process and not browser and not slow" {{ arguments }}

# What starts an app or another process, and what drives Chromium
test-browser *arguments:
    RAD3D_TEST_BROWSER=required {{ pytest }} -m "browser or process" {{ arguments }}

# Everything, as CI runs it
test-all *arguments:
    RAD3D_TEST_SLOW=1 {{ pytest }} {{ arguments }}

# Style and types
lint:
    {{ venv }}/bin/ruff check .
    {{ venv }}/bin/ruff format --check .
    {{ venv }}/bin/mypy

# The pages as a web site, in site/
docs:
    {{ venv }}/bin/mkdocs build --strict

# Write requirements.lock for Linux on x86-64 with Python 3.12; with --torch-backend cpu, torch without CUDA
lock *arguments:
    {{ venv }}/bin/uv pip compile requirements.txt --output-file requirements.lock --generate-hashes \
        --python-version 3.12 --python-platform x86_64-manylinux_2_28 --no-annotate --quiet \
        --system-certs --custom-compile-command "just lock" {{ arguments }}

# Known vulnerabilities of the locked packages; exits with 1 where there are some, with 2 where not all were checked
audit:
    #!/usr/bin/env bash
    report=$({{ uvx }} pip-audit==2.10.1 -r requirements.lock --require-hashes --disable-pip \
        --progress-spinner off 2>&1) || failed=1
    echo "$report"
    if grep -qE '^Found [0-9]+ known vulnerabilit' <<<"$report"; then exit 1; fi
    skipped=$(grep -c 'could not be audited' <<<"$report")
    if [ "$skipped" -gt 0 ]; then
        echo "NOT CHECKED: $skipped of $(grep -c == requirements.lock) packages"
    elif [ -n "${failed:-}" ]; then
        echo "NOT CHECKED: pip-audit gave no answer"
    else
        exit 0
    fi
    exit 2

# Licences of the locked packages that are installed here; fails at one of the GPL family
licences:
    {{ uvx }} pip-licenses==5.5.5 --python {{ python }} --partial-match --fail-on "GPL;SSPL;BUSL;NonCommercial" \
        --packages $(sed -n 's/==.*//p' requirements.lock)

# A bill of materials of the lock, as CycloneDX JSON
sbom:
    {{ uvx }} --from cyclonedx-bom==7.5.0 cyclonedx-py requirements requirements.lock \
        --mc-type application --pyproject pyproject.toml --output-reproducible
