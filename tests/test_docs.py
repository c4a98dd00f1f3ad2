"""What README, CONTRIBUTING and the other pages say is held to what the code does."""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
from scripts_as_modules import ROOT, script

from rad3d.cli import COMMANDS, build_parser
from rad3d.core.registry import LANGUAGE_MODELS, MODES
from rad3d.core.settings import Settings
from rad3d.evaluation.leaderboard import view_of
from rad3d.evaluation.service import STUDY_DIR, EvaluationRun, read_run
from rad3d.metrics.bootstrap import Estimate

PAGES = [
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT, ROOT / "docs", ROOT / "dev")
    for path in sorted(folder.glob("*.md"))
]
OF_TESTS = {"RAD3D_SHARED", "RAD3D_TEST_SLOW", "RAD3D_TEST_BROWSER"}
"""Variables that only the tests read."""


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


def test_the_readme_has_one_command_to_serve_and_one_to_test() -> None:
    lines = [line for line in code_lines("README.md") if line.startswith("python3 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith("app.py")
    assert lines[1].rpartition(" -m ")[2].split() == ["pytest", "-n", "2", "--dist", "loadfile"]
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


@pytest.mark.parametrize("page", PAGES)
def test_a_variable_or_script_named_in_the_pages_exists(page: str) -> None:
    text = read(page)
    settings = {f"RAD3D_{field.name.upper()}" for field in fields(Settings)}
    assert set(re.findall(r"\bRAD3D_[A-Z_]*[A-Z]\b", text)) <= settings | OF_TESTS
    for name in re.findall(r"\b(?:benchmarks|scripts)/[\w/]+\.py", text):
        assert (ROOT / name).is_file(), f"{page} names {name}"


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


@pytest.fixture(scope="module")
def study() -> EvaluationRun:
    return read_run(STUDY_DIR)


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    return script("figures")


@pytest.mark.parametrize("page", ["README.md", "MODEL_CARD.md"])
def test_the_tables_of_figures_are_those_of_the_study(
    figures: ModuleType, study: EvaluationRun, page: str
) -> None:
    assert figures.filled(page, read(page), study) == read(page), "run: python scripts/figures.py"


def test_a_trained_variant_that_the_study_lacks_is_said_to_be_not_measured(
    figures: ModuleType, study: EvaluationRun, tmp_path: Path
) -> None:
    folder = tmp_path / "variants" / "phantom-z" / "v3"
    folder.mkdir(parents=True)
    (folder / "variant.json").write_text('{"id": "phantom-z/v3"}', encoding="utf-8")
    assert "| `phantom-z/v3` | not measured |" in "\n".join(figures.card(study, tmp_path))


def test_every_figure_in_the_readmes_prose_is_one_of_the_study(study: EvaluationRun) -> None:
    known = {str(each) for card in study.cards.values() for each in card.estimates.values()}
    known |= {str(each) for card in study.classifier.values() for each in card.macro.values()}
    view = view_of(study)
    for llm, name in itertools.product(("phantom-s", "phantom-m", "phantom-l"), study.sample_sets):
        tuned = view.difference(name, "f1_macro", f"{llm}/v3", f"{llm}/v1")
        assert tuned is not None
        known.add(str(Estimate(tuned.value, tuned.low, tuned.high, tuned.n)))
    prose = " ".join(read("README.md").partition("end of figures")[2].split())
    for text in re.findall(r"[+-]?0\.\d+ \[-?0\.\d+, -?0\.\d+\]", prose):
        assert text.lstrip("+") in known, f"README states {text}, which the study has not found"


def test_the_contributing_page_draws_the_layers_that_are_enforced() -> None:
    from test_architecture import LAYERS

    picture = re.search(r"```text\n(.*?)```", read("CONTRIBUTING.md"), re.S)
    assert picture
    rows = [set(line.partition("#")[0].split()) for line in picture[1].splitlines()]
    assert rows == [set(layer) for layer in reversed(LAYERS) if layer != ("__main__",)]
