"""``rad3d space render`` and ``deploy``: exactly what is planned is laid out and uploaded."""

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
from space_parts import KEY, LAID_OUT, change, fit_checkout, manifest_dict, plans_of

from rad3d import cli
from rad3d.core.errors import BadRequest
from rad3d.deploy.space_checks import check_space
from rad3d.deploy.upload import upload


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout that is fit to deploy."""
    return fit_checkout(tmp_path / "checkout")


def git(checkout: Path, *args: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *args],
        cwd=checkout, check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture
def committed(checkout: Path) -> Path:
    """The small checkout, in git."""
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "all")
    return checkout


# --- what is planned ----------------------------------------------------------------------------


def test_only_what_git_knows_is_planned_and_what_differs_is_named(committed: Path) -> None:
    (committed / "rad3d" / "left-over.bin").write_text("x", encoding="utf-8")
    (committed / "rad3d" / "code.py").write_text("ANSWER = 43\n", encoding="utf-8")
    (committed / "unlisted.txt").write_text("x", encoding="utf-8")
    plan = plans_of(committed)[1]["cpu-basic"]
    assert set(plan.sizes) == LAID_OUT
    assert len(plan.revision) == 40
    assert plan.dirty == ("rad3d/code.py",)
    assert plan.unknown == ("rad3d/left-over.bin",)
    assert plan.source == f"{plan.revision[:12]}+changes"


def test_a_model_whose_licence_wants_its_notice_handed_on_is_not_deployed_without_it(
    committed: Path,
) -> None:
    folder = committed / "rad3d" / "models" / "gemma-3-270m" / "v3"
    folder.mkdir(parents=True)
    (folder / "variant.json").write_text('{"licence": "Gemma Terms of Use"}', encoding="utf-8")

    def problems() -> list[str]:
        git(committed, "add", ".")
        manifest, plans = plans_of(committed)
        return [str(each) for each in check_space(manifest, plans) if "notice" in str(each)]

    assert len(problems()) == len(plans_of(committed)[1])
    assert "Gemma Terms of Use" in problems()[0]
    (folder / "NOTICE").write_text("as the terms say", encoding="utf-8")
    assert problems() == []


def test_a_clean_checkout_is_uploaded_as_its_commit(committed: Path) -> None:
    plan = plans_of(committed)[1]["cpu-basic"]
    assert plan.dirty == plan.unknown == ()
    assert plan.source == plan.revision[:12]


def test_a_removed_file_is_named_as_a_difference(committed: Path) -> None:
    (committed / "rad3d" / "more.py").write_text("", encoding="utf-8")
    git(committed, "add", ".")
    git(committed, "commit", "-qm", "more")
    (committed / "rad3d" / "more.py").unlink()
    assert plans_of(committed)[1]["cpu-basic"].dirty == ("rad3d/more.py",)


def test_files_are_not_guessed_where_git_does_not_answer(committed: Path) -> None:
    (committed / "rad3d" / "private.txt").write_text("x", encoding="utf-8")
    (committed / ".git" / "index").write_bytes(b"damaged")
    with pytest.raises(BadRequest, match="git cannot say"):
        plans_of(committed)


def test_a_link_out_of_the_checkout_is_not_followed(committed: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.txt").write_text("private", encoding="utf-8")
    (committed / "rad3d" / "notes.txt").symlink_to(tmp_path / "elsewhere.txt")
    git(committed, "add", ".")
    with pytest.raises(BadRequest, match=r"rad3d/notes\.txt is a link"):
        plans_of(committed)
    (committed / "rad3d" / "notes.txt").unlink()
    (committed / "rad3d" / "notes.txt").symlink_to("code.py")
    assert "rad3d/notes.txt" in plans_of(committed)[1]["cpu-basic"].sizes


def test_versions_of_a_target_stand_over_the_pins_however_a_name_is_spelt(checkout: Path) -> None:
    (checkout / "requirements.txt").write_text(
        "torch==2.13.0  # first\ngradio==6.31.0\nprometheus_client==0.26.0\n", encoding="utf-8"
    )
    targets = manifest_dict()["targets"]
    targets["cpu-basic"]["packages"] = {"Prometheus.Client": "0.27.0"}
    change(checkout, targets=targets)
    made = plans_of(checkout)[1]["cpu-basic"].rendered["requirements.txt"]
    assert made.splitlines()[-3:] == [
        "torch==2.13.0",
        "gradio==6.31.0",
        "prometheus-client==0.27.0",
    ]


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
    assert found == LAID_OUT
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
            raise HfHubHTTPError("no", response=httpx.Response(self.status, request=request))  # type: ignore[arg-type]
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
    monkeypatch.setenv("HF_TOKEN", " \n")
    assert cli.main(line) == 1
    assert "There is no token in HF_TOKEN" in capsys.readouterr().err
    assert hub.calls == [], "without a token nothing is sent"
    monkeypatch.setenv("HF_TOKEN", KEY)
    assert cli.main([*line, "--private"]) == 0
    assert "https://hub.test/owner/name" in capsys.readouterr().out
    calls = dict(hub.calls)
    assert calls["token"] == {"token": KEY}
    assert calls["create"]["space_sdk"] == "gradio"
    assert calls["create"]["private"] is True
    assert calls["hardware"]["hardware"] == "zero-a10g"
    assert calls["upload"]["files"] == LAID_OUT
    assert calls["upload"]["delete_patterns"] == "*"
    assert calls["upload"]["commit_message"] == "rad3d at an unknown revision"
    assert "space_secrets" not in calls["create"]


def test_a_hub_that_cannot_be_reached_is_told_in_a_sentence(
    as_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = huggingface_hub.HfApi
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token: real(nowhere, token=token))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", KEY)
    assert cli.main(["space", "deploy", "owner/name", "--yes"]) == 1
    assert "The hub could not be reached. Try again." in capsys.readouterr().err


@pytest.mark.parametrize("repo", ["name", "a/b/c", "https://hub.test/a/b", "a/", "../b", "a/b c"])
def test_a_name_that_is_no_space_is_refused_before_anything_is_planned(
    as_root: Path, hub: type[FakeHub], repo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["space", "deploy", repo]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"rad3d: {repo} is not the name of a Space. Use owner/name.\n"


def test_what_is_not_committed_or_left_out_is_said(
    committed: Path, as_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (committed / "rad3d" / "code.py").write_text("ANSWER = 43\n", encoding="utf-8")
    (committed / "rad3d" / "new.py").write_text("", encoding="utf-8")
    assert cli.main(["space", "deploy", "owner/name"]) == 0
    said = capsys.readouterr().err
    assert "+changes, for owner/name" in said
    assert "not committed: rad3d/code.py" in said
    assert "left out, since git does not know it: rad3d/new.py" in said


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
    plan = plans_of(checkout)[1]["cpu-basic"]
    with pytest.raises(BadRequest, match=r"refused to deploy to owner/name \(status 403\)") as said:
        upload(plan, "owner/name", KEY, private=False)
    assert KEY not in str(said.value)
