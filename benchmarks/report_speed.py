"""How long a person waits: app start, first token and whole report, on a 192 x 192 x 128 phantom.

    python benchmarks/report_speed.py [--variant phantom-l/v3] [--repeats 5]

Prints medians over repeats with new scans (nothing cached) in one process, models loaded lazily by
the first one, which is printed apart; then the seconds from starting app.py until it answers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from rad3d.phantom.render import render, write_nifti
from rad3d.service.service import Service
from rad3d.settings import Settings
from rad3d.truth import draw_truth
from rad3d.types import DiagnosisEvent, DoneEvent, GenerationOptions, TextEvent

ROOT = Path(__file__).resolve().parent.parent
FIRST_SEED = 60_000


def time_report(service: Service, variant: str, scan: Path) -> dict[str, float]:
    """Seconds from the click to diagnosis, first text and finished report; and reading the file."""
    session = service.new_session()
    began = time.perf_counter()
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
    service.end_session(session)
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="phantom-l/v3")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    service = Service(Settings())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.repeats + 1):
            scan = Path(folder) / f"{i}.nii.gz"
            write_nifti(render(draw_truth(FIRST_SEED + i, "in")), scan)
            rows.append(time_report(service, args.variant, scan))
    print(f"{args.variant}, seconds after the click; first request (loads the models): "
          + ", ".join(f"{k} {v:.2f}" for k, v in rows[0].items()))  # fmt: skip
    medians = {k: statistics.median(row[k] for row in rows[1:]) for k in rows[1]}
    print(f"median of {args.repeats} further scans: "
          + ", ".join(f"{k} {v:.2f}" for k, v in medians.items()))  # fmt: skip
    print(f"app.py answers after {time_start():.1f} s")


if __name__ == "__main__":
    main()
