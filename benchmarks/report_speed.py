"""How long a person waits: app start, first token and whole report, on a 192 x 192 x 128 phantom.

    python benchmarks/report_speed.py [--variant phantom-l/v3] [--repeats 5]
    python benchmarks/report_speed.py --busy 0 1 2 --rounds 3 --against CHECKOUT

Prints medians over repeats with new scans (nothing cached) in processes of their own, models loaded
lazily by the first report of each, which is printed apart; then the seconds from starting app.py
until it answers. The second line keeps 0, 1 and 2 cores busy beside it and takes turns with another
checkout of this repository.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rad3d.core.settings import Settings
from rad3d.core.types import DiagnosisEvent, DoneEvent, GenerationOptions, TextEvent
from rad3d.service.service import Service
from rad3d.synthetic.phantom.render import render, write_nifti
from rad3d.synthetic.truth import draw_truth

ROOT = Path(__file__).resolve().parent.parent
FIRST_SEED = 60_000


def time_report(service: Service, variant: str, scan: Path) -> dict[str, float]:
    """Seconds from the click to diagnosis, first text and finished report; and reading the file."""
    session = service.sessions.new()
    began, processor = time.perf_counter(), time.process_time()
    service.open_path(session, scan, scan.name)
    clicked = time.perf_counter()
    seconds = {"read file": clicked - began}
    for event in service.generate(session, variant, GenerationOptions(), threading.Event()):
        now = time.perf_counter() - clicked
        if isinstance(event, DiagnosisEvent):
            seconds["diagnosis"] = now
        elif isinstance(event, TextEvent):
            seconds.setdefault("first token", now)
        elif isinstance(event, DoneEvent):
            seconds["whole report"] = now
            seconds["tokens"] = float(event.report.n_tokens)
    seconds["CPU"] = time.process_time() - processor
    service.sessions.end(session)
    return seconds


def time_start(port: int = 7999) -> float:
    """Seconds from starting app.py until it answers."""
    environment = {**os.environ, "RAD3D_PORT": str(port)}
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, str(ROOT / "app.py")], env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        while time.perf_counter() - began < 120:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                    return time.perf_counter() - began
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        raise SystemExit("app.py did not answer within 120 s")
    finally:
        process.terminate()
        process.wait(timeout=30)


def write_reports(variant: str, repeats: int) -> list[dict[str, float]]:
    """The reports of one process; the first loads the models."""
    service = Service(Settings())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(repeats + 1):
            scan = Path(folder) / f"{i}.nii.gz"
            write_nifti(render(draw_truth(FIRST_SEED + i, "in")), scan)
            rows.append(time_report(service, variant, scan))
    return rows


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Processes beside it that each keep a core busy."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run_child(root: Path, args: argparse.Namespace) -> list[dict[str, float]]:
    """The reports of a checkout, in a process of its own."""
    command = [sys.executable, __file__, "--child", "--variant", args.variant]
    command += ["--repeats", str(args.repeats)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="phantom-l/v3")
    parser.add_argument("--repeats", type=int, default=5, help="reports of a process")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each kind, in turn")
    parser.add_argument("--busy", type=int, nargs="+", default=[0], help="busy loops beside it")
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn")
    parser.add_argument("--no-start", action="store_true", help="leave the start of app.py out")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(write_reports(args.variant, args.repeats)))
        return
    sides = {"here": ROOT} | ({"against": args.against.resolve()} if args.against else {})
    found: dict[tuple[int, str], list[list[dict[str, float]]]] = {}
    for _ in range(args.rounds):
        for count in args.busy:
            for side, root in sides.items():
                with busy_loops(count):
                    found.setdefault((count, side), []).append(run_child(root, args))
    print(f"{args.variant}, seconds after the click, medians of {args.rounds} x {args.repeats}")
    for (count, side), runs in found.items():
        for name, rows in (
            ("first, loads the models", [run[0] for run in runs]),
            ("further", [row for run in runs for row in run[1:]]),
        ):
            medians = {k: statistics.median(row[k] for row in rows) for k in rows[0]}
            print(f"{count} busy, {side}, {name}: "
                  + ", ".join(f"{k} {v:.2f}" for k, v in medians.items()))  # fmt: skip
    if not args.no_start:
        print(f"app.py answers after {time_start():.1f} s")


if __name__ == "__main__":
    main()
