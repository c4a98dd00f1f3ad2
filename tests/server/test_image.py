"""The image: without rights, complete, and in step with the settings."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rad3d.core.settings import Settings
from rad3d.ui import launch as serving

ROOT = Path(__file__).resolve().parent.parent.parent


def dockerfile() -> list[str]:
    """Instructions of the last stage, joined lines, without comments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.M)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    start = max(i for i, line in enumerate(lines) if line.startswith("FROM"))
    return lines[start:]


def test_the_image_runs_without_rights_and_answers_for_its_health() -> None:
    lines = dockerfile()
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users == ["10001"], "a number, so that a cluster can see that it is not root"
    assert lines.index("USER 10001") < lines.index('CMD ["/venv/bin/python", "app.py"]')
    health = next(line for line in lines if line.startswith("HEALTHCHECK"))
    assert "/healthz" in health
    code = json.loads(health.partition("CMD ")[2])[2]
    compile(code, "HEALTHCHECK", "exec")
    assert not any("ADD " in line or "curl" in line or "sudo" in line for line in lines)


def test_everything_that_the_image_copies_is_there_and_in_the_build_context() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*", "nothing but what is listed reaches the build"
    for line in re.findall(r"^COPY (?!--from)(?:--chmod=755 )?(.+)$", text, re.M):
        for source in line.split()[:-1]:
            name = source.removeprefix("./")
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignored, name
    assert "--require-hashes -r requirements.lock" in text


def test_the_images_environment_is_made_of_settings_and_leaves_time_to_stop() -> None:
    block = next(line for line in dockerfile() if line.startswith("ENV"))
    given = dict(re.findall(r"(\w+)=(\S+)", block))
    settings = Settings.from_env(given)
    assert settings.host == "0.0.0.0"
    assert settings.grace_seconds + serving.SECONDS_TO_DELIVER < 10, "Docker kills after 10 s"
    assert not str(settings.work_dir).startswith(str(ROOT))
    assert str(settings.runs_dir).startswith("/tmp"), "the root file system is read-only"


def test_a_linter_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint") or shutil.which(
        "hadolint", path=str(Path(sys.executable).parent)
    )
    if hadolint is None:
        pytest.skip("hadolint is not here (pip install -r requirements-dev.txt)")
    done = subprocess.run(
        [hadolint, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
