"""Lock, licences, bill of materials and statements are held to what is pinned."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scripts_as_modules import ROOT, script

from rad3d.deploy.files_plan import pins


@pytest.fixture(scope="module")
def chain() -> ModuleType:
    return script("supply_chain")


def test_the_lock_holds_every_direct_pin_and_a_hash_for_every_package(chain: ModuleType) -> None:
    packages = chain.locked((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    found = {re.sub(r"[-_.]+", "-", p.name).lower(): p.version for p in packages}
    for name, version in pins((ROOT / "requirements.txt").read_text(encoding="utf-8")).items():
        assert found.get(re.sub(r"[-_.]+", "-", name)) == version, (
            f"{name}: run scripts/supply_chain.py lock"
        )
    assert all(package.hashes for package in packages)
    assert len(found) == len(packages) > 60


def test_the_lock_names_no_place_that_packages_come_from() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert "index" not in text


def test_a_lock_is_read_package_by_package(chain: ModuleType) -> None:
    one, two = "a" * 64, "b" * 64
    text = f"# made\npip==1.0 \\\n    --hash=sha256:{one} \\\n    --hash=sha256:{two}\nno-such==2\n"
    first, second = chain.locked(text)
    assert (first.name, first.version, first.hashes) == ("pip", "1.0", (one, two))
    assert first.licence == "MIT"
    assert (second.version, second.hashes, second.licence) == ("2", (), "")


def test_no_installed_package_has_a_licence_that_is_refused(
    chain: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    packages = chain.locked((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    assert chain.licences(packages) == 0
    listed = capsys.readouterr().out
    assert len(listed.splitlines()) == len(packages)
    unknown = {p.name for p in packages if p.installed and not p.licence}
    # CUDA builds of torch bring this one, which has no content of its own and states no licence.
    assert unknown <= {"cuda-toolkit"}


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "AGPL-3.0", "CC-BY-NC-4.0", "GPLv3 or MIT"])
def test_a_licence_of_that_kind_would_be_refused(
    chain: ModuleType, licence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = chain.Package("pkg", "1", (), licence, "1")
    fine = chain.Package("pkg", "1", (), "LGPL-3.0-or-later", "1")
    assert chain.licences([fine]) == 0
    assert chain.licences([fine, bad]) == 1
    assert "refused: pkg" in capsys.readouterr().err


def test_the_bill_of_materials_names_every_locked_package_once(chain: ModuleType) -> None:
    packages = chain.locked((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "supply_chain.py"), "sbom"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    references = [component["bom-ref"] for component in bill["components"]]
    assert len(set(references)) == len(references) == len(packages)
    assert bill["dependencies"][0]["dependsOn"] == references
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", bill["serialNumber"])
    assert all(re.fullmatch(r"pkg:pypi/[a-z0-9-]+@\S+", r) for r in references)
    assert chain.bill(packages) == bill, "the same lock gives the same bill"


def test_an_audit_says_what_was_not_checked_and_is_green_for_nothing_else(
    chain: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    lock = tmp_path / "lock"
    lock.write_text("one==1 \\\n    --hash=sha256:00\ntwo==2 \\\n    --hash=sha256:00\n")
    monkeypatch.setattr(chain, "LOCK", lock)
    monkeypatch.setattr(chain, "_tool", lambda _: None)
    assert chain.audit() == 2
    assert capsys.readouterr().out.startswith("NOT CHECKED: pip-audit is not here")
    tool = tmp_path / "pip-audit"
    tool.touch(0o755)
    monkeypatch.setattr(chain, "_tool", lambda _: str(tool))
    fine = [{"name": name, "version": "1", "vulns": []} for name in ("one", "two")]
    weak = fine[0] | {"vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
    skipped = {"name": "two", "skip_reason": "Dependency not found on PyPI: two (2)"}
    for answer, status, told in (
        ("no route", 2, "NOT CHECKED: the data base"),
        (json.dumps([]), 2, "NOT CHECKED: the data base"),
        (json.dumps({"dependencies": fine}), 0, "2 of 2 packages checked, 0 with"),
        (json.dumps({"dependencies": fine[:1]}), 2, "NOT CHECKED: 1 packages"),
        (json.dumps({"dependencies": [fine[0], skipped]}), 2, "1 packages: Dependency not found"),
        (json.dumps({"dependencies": [weak, fine[1]]}), 1, "one 1: CVE-1, mended in 2"),
    ):
        tool.write_text(f"#!/bin/sh\necho '{answer}'\n")
        assert chain.audit() == status, answer
        assert told in capsys.readouterr().out


# --- statements ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "MODEL_CARD.md", "SECURITY.md"])
def test_every_page_says_plainly_that_this_is_not_a_medical_device(page: str) -> None:
    head = (ROOT / page).read_text(encoding="utf-8")[:3000].lower()
    assert "not a medical device" in head


def test_security_names_only_settings_that_exist() -> None:
    from rad3d.core.settings import Settings

    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for name in re.findall(r"RAD3D_([A-Z_]+)", text):
        assert name.lower() in Settings.__dataclass_fields__, name
