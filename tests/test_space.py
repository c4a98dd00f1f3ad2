"""spaces.yaml and ``rad3d space``: what would not start is refused, what is planned is uploaded."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
import yaml
from huggingface_hub.errors import HfHubHTTPError

from rad3d import cli
from rad3d.deploy import space_environment
from rad3d.deploy.checks import Problem, check_space
from rad3d.deploy.hub import upload
from rad3d.deploy.manifest import Manifest, read_manifest
from rad3d.deploy.plan import Plan, pins, plan_space, split_readme
from rad3d.deploy.platforms import MAX_FILE_BYTES, PLATFORMS
from rad3d.errors import BadRequest, UnknownName
from rad3d.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
KEY = "hf_" + "Abcdefghij" * 4


def manifest_dict() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "spaces.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout that is fit to deploy."""
    root = tmp_path / "checkout"
    (root / "rad3d").mkdir(parents=True)
    (root / "rad3d" / "code.py").write_text("ANSWER = 42\n", encoding="utf-8")
    (root / "app.py").write_text("import rad3d\n", encoding="utf-8")
    (root / "secret-notes.txt").write_text("not for the Space\n", encoding="utf-8")
    (root / "requirements.txt").write_text(
        "# pins\ntorch==2.13.0\ngradio==6.31.0\nnumpy==2.4.6\n", encoding="utf-8"
    )
    change(root, files=["app.py", "rad3d/"])
    return root


def change(root: Path, **parts: Any) -> None:
    """Write a manifest like the project's but for ``parts``, and the README that goes with it."""
    (root / "spaces.yaml").write_text(
        yaml.safe_dump({**manifest_dict(), **parts}, sort_keys=False, allow_unicode=True),
        encoding="utf-8",
    )
    manifest = read_manifest(root / "spaces.yaml")
    block = yaml.safe_dump(manifest.front_matter(manifest.target()), allow_unicode=True)
    (root / "README.md").write_text(f"---\n{block}---\n\n# rad3d\n", encoding="utf-8")


def plans_of(root: Path) -> tuple[Manifest, dict[str, Plan]]:
    manifest = read_manifest(root / "spaces.yaml")
    return manifest, {n: plan_space(root, manifest, t) for n, t in manifest.targets.items()}


def problems_of(root: Path) -> list[Problem]:
    return check_space(*plans_of(root))


def text_of(problems: list[Problem]) -> str:
    return "\n".join(str(problem) for problem in problems)


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
        settings = Settings.from_env(variables)
        for name, value in variables.items():
            assert str(getattr(settings, name.removeprefix("RAD3D_").lower())) == value


def test_a_space_gets_the_code_and_models_but_no_tests_and_every_pin() -> None:
    _, plans = plans_of(ROOT)
    for name, plan in plans.items():
        paths = set(plan.sizes)
        assert {"app.py", "README.md", "requirements.txt", "spaces.yaml", "LICENSE"} <= paths
        assert "rad3d/ui/static/viewer.js" in paths
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
    change(checkout, files=["app.py", "rad3d/"], targets=targets)
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
    change(checkout, files=["app.py", "rad3d/"], card={**manifest_dict()["card"], **part})
    assert said in text_of(problems_of(checkout))


# --- schema -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"hardware": "t4"}, "unknown keys: hardware. Known: card"),
        ({"targets": {}}, "names no target"),
        ({"targets": {"x": {"hardware": "cpu-basic", "python": 3.12}}}, "in quotes"),
        ({"targets": {"x": {"python": "3.12"}}}, "targets.x.hardware must be a string"),
        ({"secrets": [f"HF_TOKEN={KEY}"]}, "not the name of a variable"),
        ({"secrets": {"HF_TOKEN": KEY}}, "secrets must be a list"),
        ({"environment": {"RAD3D_OFFLINE": True}}, "must be a string or a whole number"),
        ({"environment": ["RAD3D_PORT"]}, "environment must be a table"),
        ({"files": "app.py"}, "files must be a list"),
        ({"card": {"titel": "rad3d"}}, "unknown keys: titel"),
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


@pytest.mark.parametrize("text", ["{", "- a\n- b\n", "", "card: {}\n"])
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
    ],
)
def test_a_wrong_or_secret_variable_is_found(
    checkout: Path, variables: dict[str, str], said: str
) -> None:
    change(checkout, files=["app.py", "rad3d/"], environment=variables)
    problems = text_of(problems_of(checkout))
    assert said in problems
    assert KEY not in problems


def test_models_that_match_no_variant_are_found(checkout: Path) -> None:
    change(checkout, files=["app.py", "rad3d/"], models=["phantom-*", "gpt-5/v3"])
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


@pytest.mark.parametrize("name", ["code.py", "notes.json", ".env", "server.pem"])
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


def test_only_what_git_knows_is_planned_and_what_differs_is_named(checkout: Path) -> None:
    def git(*args: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *args],
            cwd=checkout, check=True, capture_output=True,
        )  # fmt: skip

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    (checkout / "rad3d" / "left-over.bin").write_text("x", encoding="utf-8")
    (checkout / "rad3d" / "code.py").write_text("ANSWER = 43\n", encoding="utf-8")
    _, plans = plans_of(checkout)
    plan = plans["cpu-basic"]
    assert set(plan.sizes) == {"app.py", "rad3d/code.py", "README.md", "requirements.txt"}
    assert len(plan.revision) == 40
    assert plan.dirty == ("rad3d/code.py",)


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def as_root(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command works on the small checkout."""
    monkeypatch.setattr("rad3d.commands.space.ROOT", checkout)
    monkeypatch.setattr(
        "rad3d.deploy.manifest.read_manifest.__defaults__", (checkout / "spaces.yaml",)
    )
    return checkout


def test_check_exits_with_1_and_lists_the_problems(
    as_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (as_root / "README.md").write_text("# rad3d\n", encoding="utf-8")
    assert cli.main(["space", "check"]) == 1
    assert "front matter" in capsys.readouterr().out
    assert cli.main(["space", "check", "--json", "--target", "zero-gpu"]) == 1
    listed = json.loads(capsys.readouterr().out)
    assert listed[0]["remedy"] == "Run: rad3d space render --write"


def test_render_write_mends_the_readme_and_keeps_its_text(
    as_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (as_root / "README.md").write_text(
        "---\ntitle: old\n---\n\n# rad3d\n\n---\nA rule.\n", encoding="utf-8"
    )
    assert cli.main(["space", "render", "--write"]) == 0
    text = (as_root / "README.md").read_text(encoding="utf-8")
    assert text.endswith("---\n\n# rad3d\n\n---\nA rule.\n")
    assert cli.main(["space", "check"]) == 0
    assert cli.main(["space", "render", "--write"]) == 0
    assert (as_root / "README.md").read_text(encoding="utf-8") == text
    capsys.readouterr()
    assert cli.main(["space", "render", "--target", "zero-gpu"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["python_version"] == "3.12.12"


def test_render_out_lays_out_exactly_the_planned_files(as_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "space"
    assert cli.main(["space", "render", "--target", "zero-gpu", "--out", str(out)]) == 0
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert found == {"app.py", "rad3d/code.py", "README.md", "requirements.txt"}
    assert "zero-a10g" in (out / "README.md").read_text(encoding="utf-8")
    assert cli.main(["space", "render", "--out", str(out)]) == 1, "nothing is written over"


class FakeHub:
    """Stands where ``HfApi`` does and keeps what it was asked."""

    calls: list[tuple[str, dict[str, Any]]]
    status = 200

    def __init__(self, token: str) -> None:
        self.calls.append(("token", {"token": token}))

    def create_repo(self, repo: str, **given: Any) -> str:
        self.calls.append(("create", {"repo": repo, **given}))
        if self.status != 200:
            request = httpx.Request("POST", "https://hub.test/create")
            raise HfHubHTTPError("no", response=httpx.Response(self.status, request=request))
        return f"https://hub.test/{repo}"

    def upload_folder(self, **given: Any) -> None:
        folder = Path(given["folder_path"])
        files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        self.calls.append(("upload", {**given, "files": files}))

    def request_space_hardware(self, repo: str, hardware: Any) -> None:
        self.calls.append(("hardware", {"repo": repo, "hardware": hardware.value}))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    FakeHub.calls = []
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "status", 200)
    return FakeHub


def test_deploy_plans_by_default_and_uploads_nothing(
    as_root: Path,
    hub: type[FakeHub],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", KEY)
    assert cli.main(["space", "deploy", "owner/name"]) == 0
    said = capsys.readouterr()
    assert "rad3d/code.py" in said.out
    assert "--yes uploads it" in said.err
    assert KEY not in said.out + said.err
    assert hub.calls == []


def test_deploy_uploads_with_a_token_and_yes_exactly_the_plan(
    as_root: Path,
    hub: type[FakeHub],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = ["space", "deploy", "owner/name", "--target", "zero-gpu", "--yes"]
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert cli.main(line) == 1
    assert hub.calls == [], "without a token nothing is sent"
    monkeypatch.setenv("HF_TOKEN", KEY)
    assert cli.main([*line, "--private"]) == 0
    assert "https://hub.test/owner/name" in capsys.readouterr().out
    calls = dict(hub.calls)
    assert calls["token"] == {"token": KEY}
    assert calls["create"]["space_sdk"] == "gradio"
    assert calls["create"]["private"] is True
    assert calls["hardware"]["hardware"] == "zero-a10g"
    assert calls["upload"]["files"] == {"app.py", "rad3d/code.py", "README.md", "requirements.txt"}
    assert calls["upload"]["delete_patterns"] == "*"
    assert "space_secrets" not in calls["create"]


def test_what_would_not_start_is_not_uploaded(
    as_root: Path, hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", KEY)
    (as_root / "README.md").write_text("# rad3d\n", encoding="utf-8")
    assert cli.main(["space", "deploy", "owner/name", "--yes"]) == 1
    assert hub.calls == []


def test_a_refusal_of_the_hub_is_a_sentence_without_the_token(
    checkout: Path, hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeHub, "status", 403)
    manifest, plans = plans_of(checkout)
    with pytest.raises(BadRequest, match=r"refused to deploy to owner/name \(status 403\)") as said:
        upload(plans["cpu-basic"], manifest, "owner/name", KEY, private=False)
    assert KEY not in str(said.value)
