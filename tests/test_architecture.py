"""The layers of CONTRIBUTING.md, read from the imports; and what may load torch and gradio."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rad3d"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("volume", "reports"),
    ("synthetic",),
    ("data",),
    ("model", "metrics"),
    ("features",),
    ("train", "service", "api"),
    ("evaluation",),
    ("readers",),
    ("server", "deploy"),
    ("ui",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
"""From the bottom. A part imports from layers below it and from itself."""


RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
MAY_IMPORT_TORCH = {"model", "features", "train"}
MAY_IMPORT_TORCH_LAZILY = {"volume", "commands", "metrics"}
MAY_IMPORT_GRADIO = {"server", "ui"}

SOURCES = sorted(PACKAGE.rglob("*.py"))
IMPORT_NAMES = {
    "fhir.resources": "fhir",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "python-gdcm": "gdcm",
    "scikit-learn": "sklearn",
}


def part_of(path: Path) -> str:
    """``rad3d/volume/load.py`` -> ``"volume"``; ``rad3d/__init__.py`` -> ``"__init__"``."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imported_modules(path: Path, lazy: bool = True) -> tuple[str, ...]:
    """Absolute names of everything a file imports; with ``lazy`` also inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: list[str] = []
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def breaches(part: str, modules: Iterable[str]) -> list[str]:
    """The imports that a file of ``part`` may not have."""
    wrong = []
    for module in modules:
        names = module.split(".")
        if names[0] != "rad3d" or len(names) < 2 or names[1] not in RANK or names[1] == part:
            continue
        if RANK[names[1]] >= RANK[part]:
            wrong.append(module)
    return wrong


def test_every_part_of_the_package_has_a_layer() -> None:
    assert {part_of(path) for path in SOURCES} - {"__init__"} <= set(RANK)


def test_a_module_imports_only_from_below() -> None:
    found = {
        str(path.relative_to(ROOT)): wrong
        for path in SOURCES
        if part_of(path) in RANK and (wrong := breaches(part_of(path), imported_modules(path)))
    }
    assert found == {}


def test_the_rule_catches_an_import_from_above() -> None:
    assert breaches("metrics", ["rad3d.model.engine"]) == ["rad3d.model.engine"]
    assert breaches("volume", ["rad3d.reports.sections"]) == ["rad3d.reports.sections"]
    assert breaches("data", ["rad3d.core.labels.LABELS"]) == []


def circles(imports: dict[str, set[str]]) -> list[str]:
    """The modules that import themselves by way of others."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = set(imports[start])
        while todo:
            name = todo.pop()
            seen.add(name)
            todo |= imports[name] - seen
        return seen

    return sorted(name for name in imports if name in reached(name))


def test_imports_flow_one_way_also_those_inside_functions() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in SOURCES}
    imports = {
        name: {
            module if module in modules else module.rpartition(".")[0]
            for module in imported_modules(path)
        } & set(modules)
        for name, path in modules.items()
    }  # fmt: skip
    assert circles(imports) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def users_of(library: str, lazy: bool = True) -> set[str]:
    """The parts that import a library at their top, or with ``lazy`` anywhere."""
    return {
        part_of(path)
        for path in SOURCES
        if any(module.split(".")[0] == library for module in imported_modules(path, lazy))
    }


def test_torch_stays_in_model_features_and_train() -> None:
    assert users_of("torch", lazy=False) <= MAY_IMPORT_TORCH
    assert users_of("torch") <= MAY_IMPORT_TORCH | MAY_IMPORT_TORCH_LAZILY


def test_gradio_stays_in_server_and_ui() -> None:
    assert users_of("gradio") <= MAY_IMPORT_GRADIO


def light_modules() -> list[str]:
    """Everything that must come up without torch and gradio."""
    light = {"core", "reports", "deploy", "commands", "cli"}
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCES
        if part_of(path) in light
    ]


def test_words_text_and_command_line_load_neither_torch_nor_gradio() -> None:
    code = (
        f"import importlib, sys\n"
        f"for name in {light_modules()!r}: importlib.import_module(name)\n"
        f"print(sorted({{'torch', 'gradio', 'transformers', 'monai'}} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def pinned(*names: str) -> dict[str, str]:
    """Package -> version of the requirement files."""
    lines = [line for name in names for line in (ROOT / name).read_text().splitlines()]
    found = (re.match(r"([A-Za-z0-9_.-]+)==(\S+)", line) for line in lines)
    return {match[1].lower(): match[2] for match in found if match}


def third_party(paths: list[Path]) -> set[str]:
    """Top-level names of foreign packages that files import."""
    names = {module.split(".")[0] for path in paths for module in imported_modules(path)}
    own = {"rad3d", "app", *(name for path in paths for name in (path.stem, path.parent.name))}
    own |= {path.stem for path in (ROOT / "benchmarks").glob("*.py")}  # tests run some of them
    return names - set(sys.stdlib_module_names) - own


def test_every_imported_package_is_a_pinned_requirement() -> None:
    run, dev = (
        {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in pinned(*files)}
        for files in (["requirements.txt"], ["requirements.txt", "requirements-dev.txt"])
    )
    assert third_party([*SOURCES, ROOT / "app.py"]) <= run
    assert third_party(sorted((ROOT / "tests").rglob("*.py"))) <= dev


CT_RATE_ONLY = (
    "api.py", "core/findings.py", "core/labels.py", "metrics/models.py", "synthetic",
    "model/encoders/ctclip", "model/encoders/phantom_cnn.py", "train/phantoms.py",
)  # fmt: skip
"""What is about CT-RATE's labels as such: phantoms, their encoder, CT-CLIP, RadBERT."""


def test_only_what_is_about_ct_rate_counts_on_its_labels() -> None:
    names = re.compile(r"\b(?:N_LABELS|LABELS|LABEL_INDEX)\b(?!\.csv)")
    for path in SOURCES:
        where = path.relative_to(PACKAGE).as_posix()
        if not where.startswith(CT_RATE_ONLY):
            assert not names.search(path.read_text(encoding="utf-8")), where


def test_app_py_stays_a_few_lines() -> None:
    assert len((ROOT / "app.py").read_text(encoding="utf-8").splitlines()) <= 25


def test_no_module_outgrows_one_idea() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > 500}
    assert long == {}, "split these; most modules have 100 to 300 lines"
