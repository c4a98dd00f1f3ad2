"""What the app is made of: the lock with hashes, weaknesses, licences, a bill of materials.

    .venv/bin/python scripts/supply_chain.py lock       # writes requirements.lock (needs uv)
    .venv/bin/python scripts/supply_chain.py audit      # pip-audit on the lock (needs the network)
    .venv/bin/python scripts/supply_chain.py licences   # every locked package that is installed
    .venv/bin/python scripts/supply_chain.py sbom       # CycloneDX 1.6 JSON on stdout

``lock`` takes the newest versions that fit the pins of requirements.txt, for Linux on x86-64 with
Python 3.12. With ``--cpu`` it takes torch without CUDA, for a much smaller image.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
REFUSED = re.compile(r"\b(A?GPL|SSPL|BUSL|Commons Clause|NonCommercial|CC-BY-NC)", re.IGNORECASE)
"""Licences that an Apache-2.0 app should not depend on; LGPL is fine."""

SPDX = {
    "apache software license": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "bsd license": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "mit license": "MIT",
    "isc license (iscl)": "ISC",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What packages write in their own words -> SPDX."""


@dataclass(frozen=True)
class Package:
    """A locked package.

    Attributes:
        name, version: as locked.
        hashes: SHA-256 of the files that may be installed.
        licence: as the installed package says, empty where it is not installed or says nothing.
        installed: the version that is here, or empty.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    licence: str
    installed: str


def locked(text: str) -> list[Package]:
    """The packages of a lock, in order."""
    packages = []
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s\\;]+)", block)
        if match:
            hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
            packages.append(Package(match[1], match[2], hashes, *_here(match[1])))
    return packages


def _here(name: str) -> tuple[str, str]:
    """(licence, version) of an installed package; empty where it is not."""
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return "", ""
    stated = str(found.get("License-Expression") or "")
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in found.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    classifiers = [name for name in classifiers if name != "OSI Approved"]
    text = str(found.get("License") or "").strip()
    licence = stated or " AND ".join(SPDX.get(c.lower(), c) for c in classifiers)
    if not licence and text:
        licence = SPDX.get(text.splitlines()[0].strip().lower(), text.splitlines()[0].strip())
    return licence, str(found["Version"])


def bill(packages: list[Package]) -> dict[str, Any]:
    """A CycloneDX 1.6 document; the same lock gives the same document."""
    seed = hashlib.sha256(repr([(p.name, p.version) for p in packages]).encode()).hexdigest()
    reference = f"pkg:pypi/rad3d@{_version()}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(seed[:32])}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": reference,
                "name": "rad3d",
                "version": _version(),
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "purl": reference,
            }
        },
        "components": [_component(package) for package in packages],
        "dependencies": [{"ref": reference, "dependsOn": [_purl(package) for package in packages]}],
    }


def _component(package: Package) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _purl(package),
        "name": package.name,
        "version": package.version,
        "purl": _purl(package),
    }
    if len(package.hashes) == 1:  # several files: which one was installed is not known
        component["hashes"] = [{"alg": "SHA-256", "content": package.hashes[0]}]
    if package.licence:
        component["licenses"] = [{"license": {"name": package.licence}}]
    return component


def _purl(package: Package) -> str:
    name = re.sub(r"[-_.]+", "-", package.name).lower()
    return f"pkg:pypi/{name}@{package.version}"


def _version() -> str:
    text = (ROOT / "rad3d" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'__version__ = "(.+)"', text)[0]


def make_lock(cpu: bool) -> int:
    """Write the lock with uv."""
    uv = _tool("uv")
    if uv is None:
        print("uv is not here: pip install uv", file=sys.stderr)
        return 1
    line = [
        uv, "pip", "compile", "requirements.txt", "--output-file", LOCK.name, "--generate-hashes",
        "--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_28", "--no-annotate",
        "--custom-compile-command", "scripts/supply_chain.py lock", "--quiet",
    ]  # fmt: skip
    return subprocess.run(
        [*line, *(["--torch-backend", "cpu"] if cpu else [])], cwd=ROOT
    ).returncode


def audit() -> int:
    """Known vulnerabilities of the locked versions.

    Returns:
        0 where every package was looked up and none has one, 1 where one has, 2 where some were
        not looked up: pip-audit itself calls that "no known vulnerabilities found".
    """
    tool = _tool("pip-audit")
    if tool is None:
        return _unchecked("pip-audit is not here (pip install pip-audit)")
    line = [tool, "-r", str(LOCK), "--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    done = subprocess.run([*line, "--format", "json"], capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return _unchecked(f"the data base of vulnerabilities could not be asked ({reason[:120]})")
    checked = [entry for entry in report if "vulns" in entry and "skip_reason" not in entry]
    found = [entry for entry in checked if entry["vulns"]]
    for entry in found:
        for weakness in entry["vulns"]:
            mended = ", ".join(weakness["fix_versions"]) or "none yet"
            print(f"{entry['name']} {entry['version']}: {weakness['id']}, mended in {mended}")
    total = len(locked(LOCK.read_text(encoding="utf-8")))
    print(f"{len(checked)} of {total} packages checked, {len(found)} with known weaknesses")
    if len(checked) < total:
        reasons = Counter(entry.get("skip_reason", "").split(":")[0] for entry in report)
        reasons.pop("", None)
        why = next(iter(reasons), "it does not know them")
        _unchecked(f"{total - len(checked)} packages: {why}")
    return 1 if found else 2 * (len(checked) < total)


def _unchecked(reason: str) -> int:
    print(f"NOT CHECKED: {reason}")
    return 2


def _tool(name: str) -> str | None:
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def licences(packages: list[Package]) -> int:
    """A line for each package; 1 where one has a licence that is refused."""
    for package in packages:
        print(f"{package.name}=={package.version}  {package.licence or '(not installed here)'}")
    bad = [p for p in packages if REFUSED.search(p.licence)]
    for package in bad:
        print(f"refused: {package.name} is under {package.licence}", file=sys.stderr)
    return int(bool(bad))


def main() -> int:
    """Run one of the four."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("lock", "audit", "licences", "sbom"))
    parser.add_argument("--cpu", action="store_true", help="with lock: torch without CUDA")
    args = parser.parse_args()
    if args.what == "lock":
        return make_lock(args.cpu)
    if args.what == "audit":
        return audit()
    packages = locked(LOCK.read_text(encoding="utf-8"))
    if args.what == "licences":
        return licences(packages)
    print(json.dumps(bill(packages), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
