"""``rad3d space check``: what would not start, or would tell a secret, is found and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from space_parts import (
    KEY,
    ROOT,
    change,
    fit_checkout,
    manifest_dict,
    plans_of,
    problems_of,
    text_of,
)

from rad3d import cli
from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.settings import Settings
from rad3d.deploy import space_environment
from rad3d.deploy.files_plan import pins, split_readme
from rad3d.deploy.manifest import read_manifest
from rad3d.deploy.platforms import MAX_FILE_BYTES, PLATFORMS


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout that is fit to deploy."""
    return fit_checkout(tmp_path / "checkout")


# --- this repository ----------------------------------------------------------------------------


def test_this_repository_is_fit_to_deploy_on_every_target(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = cli.main(["space", "check"])
    said = capsys.readouterr()
    assert said.out == ""
    assert status == 0, said.out
    for name in manifest_dict()["targets"]:
        assert f"{name}: " in said.err


def test_both_kinds_of_hardware_are_targets_and_the_readme_describes_cpu_basic() -> None:
    manifest = read_manifest()
    hardware = [target.hardware for target in manifest.targets.values()]
    assert hardware[0] == "cpu-basic"
    assert "zero-a10g" in hardware
    block, _ = split_readme((ROOT / "README.md").read_text(encoding="utf-8"))
    assert yaml.safe_load(block)["suggested_hardware"] == "cpu-basic"


def test_the_environment_of_each_target_becomes_settings() -> None:
    manifest = read_manifest()
    for target in manifest.targets.values():
        variables = manifest.variables(target)
        assert variables.keys() >= {*manifest.environment, *target.environment}
        settings = Settings.from_env(variables)
        for name, value in variables.items():
            assert str(getattr(settings, name.removeprefix("RAD3D_").lower())) == value


def test_a_space_gets_the_code_and_models_but_no_tests_and_every_pin() -> None:
    _, plans = plans_of(ROOT)
    for name, plan in plans.items():
        paths = set(plan.sizes)
        assert {"app.py", "README.md", "requirements.txt", "spaces.yaml", "LICENSE"} <= paths
        assert {"rad3d/ui/static/viewer.js", "rad3d/evaluation/static/page.js"} <= paths
        assert {"rad3d/ui/templates/report.jinja", "rad3d/evaluation/templates/page.jinja"} <= paths
        assert not [p for p in paths if p.startswith(("tests/", "benchmarks/", ".", "dev/"))]
        own = pins((ROOT / "requirements.txt").read_text(encoding="utf-8"))
        made = pins(plan.rendered["requirements.txt"])
        assert set(own) <= set(made)
        assert {k: v for k, v in made.items() if own.get(k, v) != v}.keys() <= {"torch"}
        assert "--hash" not in plan.rendered["requirements.txt"], f"{name}: pip would refuse"


# --- versions -----------------------------------------------------------------------------------


def target_with(checkout: Path, name: str, **parts: Any) -> str:
    targets = manifest_dict()["targets"]
    targets[name].update(parts)
    change(checkout, targets=targets)
    return text_of(problems_of(checkout))


def test_the_small_checkout_is_fit_so_that_the_tests_below_find_what_they_broke(
    checkout: Path,
) -> None:
    assert text_of(problems_of(checkout)) == ""


@pytest.mark.parametrize("python", ["3.12", "3.12.11", "3.11", "3.13.1"])
def test_zero_gpu_refuses_a_python_that_it_does_not_offer(checkout: Path, python: str) -> None:
    said = target_with(checkout, "zero-gpu", python=python)
    assert f"zero-gpu: zero-a10g has no Python {python}" in said
    assert "3.12.12" in said


def test_zero_gpus_older_python_is_refused_because_the_code_needs_a_newer(checkout: Path) -> None:
    said = target_with(checkout, "zero-gpu", python="3.10.13")
    assert "The code needs Python 3.11 or 3.12, not 3.10.13" in said
    assert "has no Python" not in said


@pytest.mark.parametrize(
    ("torch", "admitted"),
    [("2.13.0", True), ("2.11.0", True), ("2.12.0", False), ("2.7.1", False), ("2.14.0", False)],
)
def test_zero_gpu_admits_only_the_listed_versions_of_torch(
    checkout: Path, torch: str, admitted: bool
) -> None:
    said = target_with(checkout, "zero-gpu", packages={"torch": torch})
    assert (f"zero-a10g does not admit torch {torch}" in said) is not admitted
    assert said == "" or "2.13.0" in said


def test_a_gpu_target_refuses_a_build_of_torch_without_cuda(checkout: Path) -> None:
    said = target_with(checkout, "zero-gpu", packages={"torch": "2.13.0+cpu"})
    assert "without CUDA" in said


def test_cpu_basic_takes_any_python_that_the_code_takes(checkout: Path) -> None:
    assert target_with(checkout, "cpu-basic", python="3.11") == ""
    assert "not 3.13" in target_with(checkout, "cpu-basic", python="3.13")


def test_unknown_hardware_is_refused_with_the_known(checkout: Path) -> None:
    said = target_with(checkout, "cpu-basic", hardware="cpu-huge")
    assert "cpu-huge" in said
    for hardware in PLATFORMS:
        assert hardware in said


def test_the_versions_of_a_target_stand_over_the_pins(checkout: Path) -> None:
    _, plans = plans_of(checkout)
    cpu = plans["cpu-basic"].rendered["requirements.txt"]
    assert "--extra-index-url https://" in cpu
    assert pins(cpu) == {"torch": "2.13.0+cpu", "gradio": "6.31.0", "numpy": "2.4.6"}
    zero = plans["zero-gpu"].rendered["requirements.txt"]
    assert "index" not in zero
    assert pins(zero)["torch"] == "2.13.0"
    assert "spaces" in pins(zero)


# --- card and front matter ----------------------------------------------------------------------


def test_a_readme_out_of_step_is_found_and_the_differing_key_named(checkout: Path) -> None:
    readme = checkout / "README.md"
    readme.write_text(
        readme.read_text(encoding="utf-8").replace("sdk_version: 6.31.0", "sdk_version: 5.0.0"),
        encoding="utf-8",
    )
    said = text_of(problems_of(checkout))
    assert "front matter" in said
    assert "(sdk_version)" in said


@pytest.mark.parametrize("front", ["", "---\n: : :\n---\n", "---\n- a list\n---\n"])
def test_a_readme_without_front_matter_is_found(checkout: Path, front: str) -> None:
    (checkout / "README.md").write_text(front + "# rad3d\n", encoding="utf-8")
    assert "front matter" in text_of(problems_of(checkout))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"sdk": "docker"}, "sdk must be gradio"),
        ({"sdk_version": "6.30.0"}, "sdk_version is 6.30.0, gradio is pinned 6.31.0"),
        ({"colorTo": "teal"}, "colorTo must be one of"),
        ({"short_description": "x" * 61}, "over 60 characters"),
        ({"app_file": "main.py"}, "main.py is not among the planned files"),
        ({"license": ""}, "lacks license"),
    ],
)
def test_a_card_that_the_hub_would_refuse_is_found(
    checkout: Path, part: dict[str, str], said: str
) -> None:
    change(checkout, card={**manifest_dict()["card"], **part})
    assert said in text_of(problems_of(checkout))


# --- schema -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"hardware": "t4"}, "hardware is an unknown key"),
        ({"targets": {}}, "targets: dictionary should have at least 1 item"),
        (
            {"targets": {"x": {"hardware": "cpu-basic", "python": 3.12}}},
            "targets.x.python: input should be a valid string",
        ),
        ({"targets": {"x": {"python": "3.12"}}}, "targets.x.hardware: field required"),
        ({"secrets": [f"HF_TOKEN={KEY}"]}, "secrets lists names only"),
        ({"secrets": {"HF_TOKEN": KEY}}, "secrets: input should be a valid list"),
        (
            {"environment": {"RAD3D_OFFLINE": True}},
            "environment.RAD3D_OFFLINE: input should be a valid string",
        ),
        ({"environment": ["RAD3D_PORT"]}, "environment: input should be a valid dictionary"),
        ({"files": "app.py"}, "files: input should be a valid list"),
        (
            {"targets": {"x": {"hardware": "a", "python": "3.12", "gpu": 1}}},
            "targets.x.gpu is an unknown key",
        ),
        ({"card": {"titel": "rad3d"}}, "card.titel.[key]: input should be 'title'"),
    ],
)
def test_a_manifest_of_another_shape_is_refused_with_the_place_and_without_any_value(
    tmp_path: Path, parts: dict[str, Any], said: str
) -> None:
    path = tmp_path / "spaces.yaml"
    path.write_text(yaml.safe_dump({**manifest_dict(), **parts}), encoding="utf-8")
    with pytest.raises(BadRequest) as refused:
        read_manifest(path)
    assert said in str(refused.value)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["{", "- a\n- b\n", "", "card: {}\n", "card: 2026-99-99\n", "card: \x00\n"]
)
def test_something_else_than_a_manifest_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spaces.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadRequest, match=r"^spaces\.yaml: "):
        read_manifest(path)
    with pytest.raises(BadRequest, match="cannot be read"):
        read_manifest(tmp_path / "absent.yaml")


def test_an_unknown_target_is_refused_with_the_known() -> None:
    with pytest.raises(UnknownName, match="cpu-basic, zero-gpu"):
        read_manifest().target("gpu")


# --- environment and secrets --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RAD3D_PROT": "1"}, "RAD3D_PROT is not a setting"),
        ({"RAD3D_PORT": "many"}, "must be a whole number"),
        ({"RAD3D_LOGIN": "me:password"}, "gives RAD3D_LOGIN a value"),
        ({"HF_TOKEN": "short"}, "gives HF_TOKEN a value"),
        ({"GREETING": KEY}, "gives GREETING a value"),
        ({"RAD3D_PORT": "8080"}, "RAD3D_PORT is set by the platform"),
    ],
)
def test_a_wrong_or_secret_variable_is_found(
    checkout: Path, variables: dict[str, str], said: str
) -> None:
    change(checkout, environment=variables)
    problems = text_of(problems_of(checkout))
    assert said in problems
    assert KEY not in problems


def test_models_that_match_no_variant_are_found(checkout: Path) -> None:
    change(checkout, models=["phantom-*", "gpt-5/v3"])
    said = text_of(problems_of(checkout))
    assert "gpt-5/v3" in said
    assert "phantom" not in said


def test_off_a_space_the_environment_is_left_alone() -> None:
    assert space_environment({"RAD3D_PORT": "1"}) == {"RAD3D_PORT": "1"}


def test_on_a_space_the_manifest_is_what_runs_and_its_owner_can_override_it() -> None:
    manifest = read_manifest()
    env = space_environment({"SPACE_ID": "a/b", "RAD3D_MAX_UPLOAD_MB": "7"})
    wanted = manifest.variables(manifest.target("cpu-basic"))
    assert env["RAD3D_MAX_UPLOAD_MB"] == "7"
    for name in set(wanted) - {"RAD3D_MAX_UPLOAD_MB"}:
        assert env[name] == wanted[name]
    zero = space_environment({"SPACE_ID": "a/b", "SPACES_ZERO_GPU": "true"})
    wanted = manifest.variables(manifest.target("zero-gpu"))
    assert {name: zero[name] for name in wanted} == wanted
    assert "RAD3D_THREADS" not in zero, "the two cores are those of cpu-basic"


# --- files --------------------------------------------------------------------------------------


def test_a_file_that_needs_lfs_is_found(checkout: Path) -> None:
    large = checkout / "rad3d" / "weights.safetensors"
    large.write_bytes(b"\0" * (MAX_FILE_BYTES + 1))
    assert "rad3d/weights.safetensors has 10.0 MiB" in text_of(problems_of(checkout))
    large.write_bytes(b"\0" * MAX_FILE_BYTES)
    assert problems_of(checkout) == []


@pytest.mark.parametrize("name", ["code.py", "notes.json", "run.sh", ".env", "server.pem"])
def test_a_key_in_a_planned_file_is_found_and_not_repeated(checkout: Path, name: str) -> None:
    (checkout / "rad3d" / name).write_text(f"TOKEN = '{KEY}'\n", encoding="utf-8")
    said = text_of(problems_of(checkout))
    assert f"rad3d/{name}" in said
    assert KEY not in said


@pytest.mark.parametrize("entry", ["/etc/passwd", "../other", "rad3d/../../other", "absent.txt"])
def test_a_file_outside_the_checkout_or_absent_is_refused(checkout: Path, entry: str) -> None:
    change(checkout, files=["app.py", entry])
    with pytest.raises(BadRequest):
        plans_of(checkout)


def test_a_password_in_the_address_of_an_index_is_found_and_not_repeated(checkout: Path) -> None:
    said = target_with(checkout, "cpu-basic", index="https://me:hunter2@packages.test/simple")
    assert "requirements.txt holds something like a key" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "line", ["scipy>=1.17", "gradio[mcp]==6.31.0", "-r more.txt", "x @ https://h.test/x.whl"]
)
def test_a_requirement_that_the_space_would_go_without_is_found(checkout: Path, line: str) -> None:
    path = checkout / "requirements.txt"
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    assert f"requirements.txt asks for {line}." in text_of(problems_of(checkout))


def test_front_matter_ends_at_a_line_of_its_own(checkout: Path) -> None:
    change(checkout, card={**manifest_dict()["card"], "title": "a ---"})
    assert problems_of(checkout) == []
    block, text = split_readme("---\ntitle: a ---\n---\nText\n---\n")
    assert (block, text) == ("title: a ---\n", "Text\n---\n")
