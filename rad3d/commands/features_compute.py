"""The work behind ``rad3d features compute|import``."""

from __future__ import annotations

import argparse
import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rad3d.commands import print_json, say
from rad3d.core.errors import BadRequest, BadVolume
from rad3d.core.labels import LabelSet
from rad3d.core.settings import Settings
from rad3d.core.words import byte_text, duration_text

if TYPE_CHECKING:
    from rad3d.core.types import Volume
    from rad3d.features.extract import FeatureWork, Plan, Progress, Summary
    from rad3d.features.shards import FeatureStore
    from rad3d.volume.ctrate import ScanMetadata

SAY_EVERY = 5.0
"""Seconds between two lines of progress."""

MAX_IN_A_SHARD = 10_000
"""Names and hashes of a shard are read whenever its store is opened."""

LONGEST_WAIT = timedelta(days=30)
"""The longest time that a process that has finished waits for the others."""


@dataclass(frozen=True)
class Crew:
    """The processes of one ``accelerate launch``; one alone without it.

    Attributes:
        index, count: which of how many.
        local: which on this machine.
    """

    index: int
    count: int
    local: int

    @classmethod
    def join(cls) -> Crew:
        """This process among those that were launched together.

        They talk through the processor (gloo) wherever they encode: it is one number at the end.
        """
        from accelerate import PartialState

        state = PartialState(cpu=True, timeout=LONGEST_WAIT)
        return cls(state.process_index, state.num_processes, state.local_process_index)

    def device(self, wanted: str) -> str:
        """The device of this process: the GPUs of a machine are dealt out in turn."""
        import torch

        gpus = torch.cuda.device_count()
        if self.count > 1 and gpus and wanted in ("auto", "cuda"):
            return f"cuda:{self.local % gpus}"
        return wanted

    def together(self, summary: Summary) -> Summary:
        """The sum over all processes, once all have finished."""
        from accelerate.utils import gather_object

        first, *others = gather_object([summary])
        return sum(others, first)

    def say(self, text: str) -> None:
        """Tell the person, and where there are several, who says it."""
        say(f"[{self.index + 1}/{self.count}] {text}" if self.count > 1 else text)


def run(args: argparse.Namespace) -> int:
    """Plan or encode; the first process prints what all have done."""
    for name in ("readers", "shard_size", "processes"):
        if getattr(args, name) < 1:
            raise BadRequest(f"--{name.replace('_', '-')} must be 1 or more.", code="bad_option")
    if args.shard_size > MAX_IN_A_SHARD:
        raise BadRequest(f"--shard-size must be {MAX_IN_A_SHARD:,} or less.", code="bad_option")
    if args.limit < 0:
        raise BadRequest("--limit must be 0 or more.", code="bad_option")
    crew = Crew.join()
    work, store = _prepared(args, crew)
    if args.plan:
        plan = work.plan()
        if crew.index == 0:
            _print_plan(plan, args)
        return 0
    summary = crew.together(_follow(work, args.shard_size, crew))
    if crew.index:
        return 0
    return _finish(summary, store, args.json)


def run_import(args: argparse.Namespace) -> int:
    """Import, and print what came of it."""
    from rad3d.features.foreign import read_logits
    from rad3d.features.imports import import_features, imported_identity
    from rad3d.features.shards import FeatureStore

    labels = LabelSet.find(args.label_set)
    logits = read_logits(args.logits, labels) if args.logits else None
    store = FeatureStore.create(args.out, imported_identity(args.encoder))
    summary = import_features(store, args.files, logits, labels)
    say(f"Whose features these are is not proven: they are recorded as {args.encoder}, imported.")
    return _finish(summary, store, args.json, "imported")


def _prepared(args: argparse.Namespace, crew: Crew) -> tuple[FeatureWork, FeatureStore]:
    """Prepare the work; whatever can be refused is refused here."""
    from rad3d.features.encoder_features import encoder_identity
    from rad3d.features.extract import FeatureWork
    from rad3d.features.scans import Part, find_scans
    from rad3d.features.shards import STORE_FILE, FeatureStore
    from rad3d.model.store import ModelStore
    from rad3d.volume.ctrate import MetadataTable
    from rad3d.volume.decoded import Limits
    from rad3d.volume.load import read_volume

    part = Part.parse(args.part).part(crew.index, crew.count)
    metadata = MetadataTable(args.metadata) if args.metadata else None
    scans, left_out = find_scans(args.source, args.root)
    if left_out and crew.index == 0:
        say(f"left out of {args.source}: {left_out}")
    settings = Settings.from_env()
    settings = replace(settings, device=crew.device(args.device or settings.device))
    models = ModelStore(settings)
    limits = Limits.of(settings)
    identity = encoder_identity(models, args.encoder)
    if args.plan and not (args.out / STORE_FILE).is_file():
        store = FeatureStore(args.out, identity)  # in memory: a plan writes nothing
    else:
        store = FeatureStore.create(args.out, identity)

    def read(path: Path, name: str, row: ScanMetadata | None) -> Volume:
        volume = read_volume(path, name, limits, row)
        if not args.force and (note := volume.not_reported):
            raise BadVolume(note.text, "Add --force to encode it.", code=note.code)
        return volume

    work = FeatureWork(
        models,
        args.encoder,
        store,
        [scan for scan in scans[: args.limit or None] if part.holds(scan.id)],
        read,
        metadata,
        args.readers,
        args.retry_failed,
        args.tokens,
    )
    return work, store


def _follow(work: FeatureWork, shard_size: int, crew: Crew) -> Summary:
    """Tell how it goes; an interrupt keeps what is encoded before it is passed on."""
    last_line = 0.0
    with closing(work.run(shard_size)) as steps:
        for step in steps:
            if time.monotonic() - last_line > SAY_EVERY or step.done == step.total:
                last_line = time.monotonic()
                crew.say(_line(step))
    return work.summary


def _line(step: Progress) -> str:
    seconds = step.summary.seconds
    rate = step.done / seconds if seconds else 0.0
    each = f"{rate:.2f} a second" if rate >= 1 else f"{seconds / step.done:.1f} s each"
    failed = step.summary.failed.total()
    return (
        f"{step.done} of {step.total} scans, {failed} failed, {each}, "
        f"{duration_text(step.seconds_left)} left"
    )


def _finish(summary: Summary, store: FeatureStore, as_json: bool, done: str = "encoded") -> int:
    """Print what was done and list what was not."""
    from rad3d.features.extract import write_failures
    from rad3d.features.shards import FeatureStore

    listed = write_failures(FeatureStore.open(store.path))  # with what others have added
    failed = summary.failed.total()
    if as_json:
        print_json(_facts(summary, store) | {"failures_file": str(listed) if listed else None})
    else:
        codes = ", ".join(f"{code} {n}" for code, n in summary.failed.most_common())
        print(
            f"{summary.scans} scans: {summary.encoded} {done}, {summary.known} known by their "
            f"content, {summary.skipped} finished before, {failed} failed"
            + (f" ({codes})" if codes else "")
        )
    if summary.warned:
        codes = ", ".join(f"{code} {n}" for code, n in summary.warned.most_common())
        say(f"Some scans were read with a warning ({codes}); `rad3d report SCAN` says more.")
    if failed:
        again = " Try them again with --retry-failed." if done == "encoded" else ""
        say(f"{failed} scans have no features: {listed}.{again}")
    return 1 if failed and not summary.with_features else 0


def _facts(summary: Summary, store: FeatureStore) -> dict[str, Any]:
    return {
        "scans": summary.scans,
        "done": summary.with_features,
        "encoded": summary.encoded,
        "known": summary.known,
        "skipped": summary.skipped,
        "failed": summary.failed.total(),
        "failed_by_code": dict(summary.failed.most_common()),
        "warned_by_code": dict(summary.warned.most_common()),
        "seconds": round(summary.seconds, 2),
        "store": str(store.path),
        "encoder": asdict(store.identity),
    }


def _print_plan(plan: Plan, args: argparse.Namespace) -> None:
    is_timed = not math.isnan(plan.seconds_per_scan)
    if args.json:
        hours = {n: round(plan.hours(n), 3) for n in dict.fromkeys((1, args.processes))}
        facts = {k: None if v != v else v for k, v in asdict(plan).items()}
        print_json({**facts, "hours": hours if is_timed else None})
        return
    away = f", {plan.missing} of them without their file" if plan.missing else ""
    print(f"{plan.scans} scans: {plan.finished} finished, {plan.failed} failed before")
    print(f"to do: {plan.todo}{away}; {byte_text(plan.source_bytes)} to read")
    print(
        f"store: {byte_text(plan.bytes_per_scan * plan.scans)}, {plan.bytes_per_scan} bytes a scan"
    )
    if not is_timed:
        print("time: not known, since fewer than two scans could be timed")
        return
    print(
        f"one scan: {plan.seconds_per_scan:.2f} s (n = {plan.probed}; reading and resampling "
        f"{plan.read_s:.2f} s, encoding {plan.encode_s:.2f} s, side by side)"
    )
    print(f"1 process: {duration_text(3600 * plan.hours())}")
    if args.processes > 1:
        together = duration_text(3600 * plan.hours(args.processes))
        print(
            f"{args.processes} processes: {together}, where each has a device and processor cores "
            "of its own"
        )
