"""What README, CONTRIBUTING and the other pages say is held to what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rad3d.cli import COMMANDS, build_parser
from rad3d.registry import LANGUAGE_MODELS, MODES

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(path.name for path in ROOT.glob("*.md")), "dev/LOG.md"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code_lines(page: str) -> list[str]:
    """Every line of the page's shell blocks, and every inline `rad3d ...`."""
    text = read(page)
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, re.M | re.S)
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


def test_the_readme_has_one_command_to_serve_and_one_to_test() -> None:
    lines = [line for line in code_lines("README.md") if line.startswith("python3 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith("app.py")
    assert lines[1].endswith("pytest")
    for line in lines:
        files = re.findall(r"-r (\S+)", line)
        assert files
        assert all((ROOT / name).is_file() for name in files)


@pytest.mark.parametrize(("page", "line"), rad3d_commands())
def test_a_command_named_in_the_pages_parses(page: str, line: str) -> None:
    words = shlex.split(line.split("|")[0].split(">")[0])
    if words[0] in COMMANDS and len(words) == 1:
        return  # the bare name of a command, in prose
    try:
        args = build_parser().parse_args(words)
    except SystemExit as stop:
        assert stop.code == 0, f"{page} names `rad3d {line}`, which does not parse"  # noqa: PT017
    else:
        assert callable(args.run)


def test_every_command_has_its_place_in_the_readme() -> None:
    named = {line.split()[0] for page, line in rad3d_commands() if page == "README.md"}
    assert set(COMMANDS) <= named


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_resolve(page: str) -> None:
    here = (ROOT / page).parent
    text = read(page)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        assert not path or (here / path).exists(), f"{page} links to {target}"
        if anchor:
            linked = (here / path) if path else ROOT / page
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{page} links to the missing heading {target}"


def test_the_readme_names_every_adaptation_mode_and_shipped_model() -> None:
    text = read("README.md")
    for mode in MODES.values():
        assert mode.name.split()[0].strip(",") in text
    for row in LANGUAGE_MODELS.values():
        if row.shipped:
            assert row.id in text


def test_the_contributing_page_draws_the_layers_that_are_enforced() -> None:
    from test_architecture import LAYERS

    picture = re.search(r"```text\n(.*?)```", read("CONTRIBUTING.md"), re.S)
    assert picture
    rows = [set(line.partition("#")[0].split()) for line in picture[1].splitlines()]
    assert rows == [set(layer) for layer in reversed(LAYERS) if layer != ("__main__",)]
