"""The lock agrees with what is pinned, the audit is honest, and the pages say what they must."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rad3d.deploy.files_plan import normal, pins

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_the_lock_holds_every_direct_pin_and_a_hash_for_every_package() -> None:
    packages = re.split(r"\n(?=[A-Za-z0-9])", LOCK)[1:]
    versions = pins("\n".join(package.split()[0] for package in packages))
    for name, version in pins((ROOT / "requirements.txt").read_text(encoding="utf-8")).items():
        assert versions.get(normal(name)) == version, f"{name}: run `just lock`"
    assert all("--hash=sha256:" in package for package in packages)
    assert len(versions) == len(packages) > 60


def test_the_lock_names_no_place_that_packages_come_from() -> None:
    assert "://" not in LOCK
    assert "index" not in LOCK


JUST = shutil.which("just", path=str(Path(sys.executable).parent)) or shutil.which("just")


@pytest.mark.skipif(JUST is None, reason="just is not installed")
@pytest.mark.parametrize(
    ("answer", "status", "exit_status", "told"),
    [
        ("No known vulnerabilities found", 0, 0, "No known"),
        (
            "No known vulnerabilities found\ntwo could not be audited: two",
            0,
            2,
            "NOT CHECKED: 1 of",
        ),
        ("ERROR: no route", 1, 2, "NOT CHECKED: pip-audit gave no answer"),
        ("Found 1 known vulnerability in 1 package\none 1 CVE-1 2", 1, 1, "CVE-1"),
    ],
)
def test_an_audit_is_green_only_where_every_package_was_checked(
    answer: str, status: int, exit_status: int, told: str, tmp_path: Path
) -> None:
    tool = tmp_path / "bin" / "uvx"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho '{answer}'\nexit {status}\n")
    tool.chmod(0o755)
    done = subprocess.run(
        [str(JUST), "audit"], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"VIRTUAL_ENV": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, told in done.stdout) == (exit_status, True), done.stdout
    assert (exit_status == 2) is ("NOT CHECKED" in done.stdout)


@pytest.mark.parametrize("page", ["README.md", "MODEL_CARD.md", "SECURITY.md"])
def test_every_page_says_plainly_that_this_is_not_a_medical_device(page: str) -> None:
    head = (ROOT / page).read_text(encoding="utf-8")[:3000].lower()
    assert "not a medical device" in head


def test_security_names_only_settings_that_exist() -> None:
    from rad3d.core.settings import Settings

    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for name in re.findall(r"RAD3D_([A-Z_]+)", text):
        assert name.lower() in Settings.__dataclass_fields__, name
