"""What README, CONTRIBUTING and the other pages say is held to what the code does."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from scripts_as_modules import ROOT

import rad3d
from rad3d.cli import COMMANDS, build_parser
from rad3d.core.settings import Settings

PAGES = [
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT, ROOT / "docs", ROOT / "dev")
    for path in sorted(folder.glob("*.md"))
]
HISTORY = "CHANGELOG.md"
"""The page that names what was renamed."""
OF_TESTS = {"RAD3D_SHARED", "RAD3D_TEST_SLOW", "RAD3D_TEST_BROWSER"}
"""Variables that only the tests read."""
OF_OTHERS = {"--dist", "--multi_gpu", "--num_processes", "--cpu", "--nproc-per-node"}
"""Options of pytest and of accelerate's and torch's launchers."""


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_lines(page: str) -> list[str]:
    """Every line of the page's shell blocks, and every inline `rad3d ...`."""
    text = read(page)
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, re.M | re.S)
    blocks = [re.sub(r"\\\n\s*", " ", block) for block in blocks]  # a line that goes on
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return lines + re.findall(r"`(rad3d [^`]+)`", text)


def rad3d_commands() -> list[tuple[str, str]]:
    """(page, command line) of every use of ``rad3d`` in the pages."""
    found = []
    for page in PAGES:
        for line in code_lines(page):
            match = re.search(r"(?:^|[\s/])rad3d (.+)$", line.partition("  #")[0])
            if match:
                found.append((page, match[1].strip()))
    return found


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    return build_parser()


def test_the_readme_has_one_command_to_serve_and_one_to_test() -> None:
    lines = [line for line in code_lines("README.md") if line.startswith("python3 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith("app.py")
    assert lines[1].rpartition(" -m ")[2].split() == ["pytest", "-n", "2", "--dist", "loadfile"]
    for line in lines:
        files = re.findall(r"-r (\S+)", line)
        assert files
        assert all((ROOT / name).is_file() for name in files)


def test_a_command_named_in_the_pages_parses(parser: argparse.ArgumentParser) -> None:
    for page, line in rad3d_commands():
        words = shlex.split(line.split("|")[0].split(">")[0])
        if page == HISTORY or (words[0] in COMMANDS and len(words) == 1):
            continue  # what was removed, and the bare name of a command in prose
        try:
            assert parser.parse_args(words).run
        except SystemExit as stop:
            if stop.code:
                pytest.fail(f"{page} names `rad3d {line}`, which does not parse")


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every option of a command and of its parts."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                yield from options(part)


def test_an_option_named_in_a_sentence_is_one_of_a_command(
    parser: argparse.ArgumentParser,
) -> None:
    scripts = [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("scripts/*.py")]
    known = {*options(parser), *OF_OTHERS}
    known |= {o for path in scripts for o in re.findall(r'"(--[\w-]+)"', path.read_text())}
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", read(page), flags=re.M | re.S)
        for code in re.findall(r"`([^`]+)`", text):
            named = set(re.findall(r"(?<!\S)--\w[\w-]*", code))
            assert page == HISTORY or named <= known, f"{page} names {named - known}"


def test_a_variable_script_or_name_in_the_pages_exists() -> None:
    settings = {f"RAD3D_{field.name.upper()}" for field in fields(Settings)} | OF_TESTS
    for page in PAGES:
        text = read(page)
        variables = set(re.findall(r"\bRAD3D_[A-Z_]*[A-Z]\b", text))
        assert page == HISTORY or variables <= settings, f"{page}: {variables - settings}"
        for name in re.findall(r"\b(?:benchmarks|scripts)/[\w/]+\.py", text):
            assert (ROOT / name).is_file(), f"{page} names {name}"
        for name in re.findall(r"`rad3d\.([a-zA-Z]\w*)", text):
            assert name in dir(rad3d) or (ROOT / "rad3d" / name).exists(), f"{page}: rad3d.{name}"


def test_every_command_has_its_place_in_the_readme() -> None:
    named = {line.split()[0] for page, line in rad3d_commands() if page == "README.md"}
    assert set(COMMANDS) <= named


def test_relative_links_resolve() -> None:
    for page in PAGES:
        text = read(page)
        targets = re.findall(r"\]\(([^)\s]+)\)", text)
        targets += re.findall(r'(?:src|href)="([^"]+)"', text)
        for target in targets:
            if not re.match(r"[a-z]+:", target):
                path, _, anchor = target.partition("#")
                linked = (ROOT / page).parent / path if path else ROOT / page
                assert linked.exists(), f"{page} links to {target}"
                assert not anchor or anchor in slugs(linked), f"{page}: no heading {target}"


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}


def test_the_contributing_page_draws_the_layers_that_are_enforced() -> None:
    from test_architecture import LAYERS

    picture = re.search(r"```text\n(.*?)```", read("CONTRIBUTING.md"), re.S)
    assert picture
    rows = [set(line.partition("#")[0].split()) for line in picture[1].splitlines()]
    assert rows == [set(layer) for layer in reversed(LAYERS) if layer != ("__main__",)]
