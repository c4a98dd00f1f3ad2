"""Many visitors on one server: browsing, reports, a burst over the limit, memory over time.

    python benchmarks/load.py              # a few visitors, 16 reports, about 4 minutes
    python benchmarks/load.py --full       # 50 visitors, 10 of them want reports; 200 reports

Starts app.py with the shipped models on a free port of this machine and ends it afterwards. Reports
are asked for by gradio_client, browsing is done by the requests that the page makes. Prints p50 and
p95 by stage; whether turns were given in order; how many were refused and what they were told; how
long the models stayed taken after a cancel and after a closed tab; and what the server's allocators
have handed out as reports go by, with the slope over the second half and its 95% interval. The
memory of the process, printed beside it, goes up and down by what the C library keeps.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
from gradio_client import Client
from gradio_client.exceptions import AppError
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from tabs import KEY, Tab

from rad3d.server import access_control as guard
from rad3d.ui.page import MODEL_PLACES as PLACES

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "load"
POINTS = 16
WAITING = "Waiting for a free model"
SECONDS_TO_REST = guard.SWEEP_SECONDS + 3
SLOW = {"strategy": "beam", "beams": 8}
"""Options of a report that takes long enough to wait for, or to be left."""


class Times:
    """Seconds by stage, from many threads."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._lock = threading.Lock()

    def add(self, stage: str, seconds: float) -> None:
        """One measurement."""
        with self._lock:
            self._seconds[stage].append(seconds)

    def table(self) -> str:
        """A line for each stage."""
        lines = []
        for stage, values in self._seconds.items():
            ordered = sorted(values)
            p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
            p50 = statistics.median(ordered)
            lines.append(f"  {stage:<28} n {len(values):4d}   p50 {p50:7.3f} s   p95 {p95:7.3f} s")
        return "\n".join(lines)


@contextmanager
def server(queue_size: int) -> Iterator[tuple[str, int]]:
    """(address, process id) of an app of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        place = {"RAD3D_PORT": str(port), "RAD3D_WORK_DIR": folder}
        place |= {"RAD3D_QUEUE_SIZE": str(queue_size), "RAD3D_METRICS_TOKEN": TOKEN}
        environment = {**os.environ, **place}
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")], env=environment, stdout=subprocess.DEVNULL
        )
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(1200):
                try:
                    httpx.get(address, timeout=5)
                    break
                except httpx.HTTPError:
                    time.sleep(0.25)
            yield address, process.pid
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


def browse(address: str, sample: str, slices: int, times: Times) -> None:
    """Open a sample and move through its slices."""
    with Tab(address) as tab:
        began = time.perf_counter()
        tab.call("open_sample", sample)
        times.add("open a scan", time.perf_counter() - began)
        key = tab.key()
        for index in range(slices):
            began = time.perf_counter()
            query = {"plane": "axial", "index": str(index), "level": "-600", "width": "1500"}
            tab.client.get(f"{address}/rad3d/slice", params=query, headers={KEY: key})
            times.add("a slice from the server", time.perf_counter() - began)
            time.sleep(0.05)


class Asked:
    """One report and its times since it was asked for."""

    def __init__(self, address: str, sample: str, variant: str) -> None:
        self.client = Client(address, verbose=False)
        self.client.predict(sample, api_name="/open_sample")
        self.variant = variant
        self.began = self.joined = self.started = self.ended = 0.0
        self.told: list[str] = []
        self.refused = ""

    def run(self, times: Times | None = None, slow: bool = False) -> None:
        """Ask, follow the events, keep what was said while waiting."""
        self.began = time.perf_counter()
        first = diagnosis = 0.0
        try:
            job = self.client.submit(self.variant, SLOW if slow else {}, api_name="/write_report")
            for event in job:
                now = time.perf_counter()
                self.joined = self.joined or now
                if event["event"] == "stage" and event["stage"].startswith(WAITING):
                    self.told.append(event["stage"])
                    continue
                self.started = self.started or now
                if event["event"] == "diagnosis":
                    diagnosis = now
                if event["event"] == "text":
                    first = first or now
            job.result()  # an error ends the events without a word; here it is raised
        except AppError as error:
            self.refused = str(error).strip()
        self.ended = time.perf_counter()
        if times and not self.refused:
            times.add("waiting for a turn", self.started - self.began)
            times.add("turn to diagnosis", diagnosis - self.started)
            times.add("turn to first word", first - self.started)
            times.add("turn to whole report", self.ended - self.started)

    def close(self) -> None:
        """Leave."""
        self.client.close()


def resident_mb(pid: int) -> float:
    """Memory of a process now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def crowd(address: str, args: argparse.Namespace, samples: list[str], times: Times) -> None:
    """Many browse while some want reports."""
    wanting = [Asked(address, samples[i % len(samples)], args.variant) for i in range(args.reports)]
    with ThreadPoolExecutor(args.visitors + args.reports) as pool:
        jobs = [
            pool.submit(browse, address, samples[i % len(samples)], args.slices, times)
            for i in range(args.visitors)
        ]
        jobs += [pool.submit(asked.run, times) for asked in wanting]
        for job in jobs:
            job.result()
    print(f"{args.visitors} visitors browsing while {args.reports} wanted reports; "
          f"{sum(bool(a.refused) for a in wanting)} refused")  # fmt: skip
    print(times.table())
    for asked in wanting:
        asked.close()


def burst(address: str, args: argparse.Namespace, samples: list[str]) -> None:
    """More at once than may wait: the order of turns, and what the others are told."""
    wanting = [
        Asked(address, samples[i % len(samples)], args.variant)
        for i in range(PLACES + args.queue + args.over)
    ]
    threads = []
    for asked in wanting:
        threads.append(threading.Thread(target=asked.run, kwargs={"slow": True}))
        threads[-1].start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    served = [asked for asked in wanting if not asked.refused]
    served.sort(key=lambda asked: asked.joined)  # in the order in which the server answered
    refused = [asked for asked in wanting if asked.refused]
    order = sorted(served, key=lambda asked: asked.started)
    late = sum(abs(order.index(a) - i) > 1 for i, a in enumerate(served))
    print(f"burst of {len(wanting)} on {PLACES} places and {args.queue} to wait: {len(served)} "
          f"served, {len(refused)} refused; {late} out of order by more than one")  # fmt: skip
    for text, n in Counter(asked.refused for asked in refused).most_common():
        print(f"  {n} were told: {text}")
    told = next((a.told for a in reversed(served) if len(a.told) > 1), [])
    for text in told[:4]:
        print(f"  the last in line was told: {text}")
    for asked in wanting:
        asked.close()


def leave(address: str, args: argparse.Namespace, samples: list[str]) -> None:
    """How long the models stay taken by somebody who cancels, or closes the tab."""
    for how in ("cancel", "close the tab"):
        waits = []
        for _ in range(args.leaving):
            tabs = [Tab(address) for _ in range(PLACES + 1)]
            for tab in tabs:
                tab.call("open_sample", samples[0])
            streams = [tab.events("write_report", args.variant, SLOW) for tab in tabs]
            for stream in streams[:PLACES]:
                _next_stage(stream)
            left: list[float] = []
            follower = threading.Thread(target=_wait_for_turn, args=(streams[PLACES], left))
            follower.start()
            time.sleep(0.3)
            began = time.perf_counter()
            if how == "cancel":
                call = {"data": [], "session_hash": tabs[0].hash}
                tabs[0].client.post(f"{tabs[0].api}/run/stop_report", json=call)
            else:
                tabs[0].close()
            follower.join()
            waits.append(left[0] - began)
            for tab in tabs:
                tab.close()
            time.sleep(1.0)
        print(f"{how}: the next in line began after p50 {statistics.median(waits):.2f} s, "
              f"longest {max(waits):.2f} s (n {len(waits)})")  # fmt: skip


def _next_stage(stream: Iterator[dict]) -> str:  # type: ignore[type-arg]
    for event in stream:
        if event["msg"] == "process_generating":
            return str(event["output"]["data"][0])
    return ""


def _wait_for_turn(stream: Iterator[dict], left: list[float]) -> None:  # type: ignore[type-arg]
    while (text := _next_stage(stream)) and "Loading the model" not in text:
        pass  # a change of the wait
    left.append(time.perf_counter())


def memory(address: str, pid: int, args: argparse.Namespace, samples: list[str]) -> None:
    """Report after report by new visitors, as many at a time as there are places.

    While reports are written, memory goes up and down by the scans that are open. What stays shows
    at rest, when the server has swept.
    """
    print(f"memory of the server over {args.many} reports, each by a new visitor", flush=True)

    def visit(number: int) -> None:
        with Tab(address) as tab:
            tab.call("open_sample", samples[number % len(samples)])
            tab.call("write_report", args.variant, {"max_new_tokens": 64})

    step = max(1, args.many // POINTS)
    reports: list[int] = []
    held: dict[str, list[float]] = defaultdict(list)
    with ThreadPoolExecutor(PLACES) as pool:
        for first in range(0, args.many, step):
            list(pool.map(visit, range(first, first + step)))
            time.sleep(SECONDS_TO_REST)
            reports.append(first + step)
            for name, value in handed_out(address).items():
                held[name].append(value)
            told = ", ".join(f"{values[-1]:.2f} {name}" for name, values in held.items())
            print(
                f"  after {reports[-1]:4d}: {told}; process {resident_mb(pid):.0f} MB", flush=True
            )
    half = len(reports) // 2
    for name, values in held.items():
        slope, error = slope_of(reports[half:], values[half:])
        print(f"  over the last {len(reports) - half} points: {100 * slope:+.3f} {name} per 100 "
              f"reports (95% interval +- {100 * error:.3f})")  # fmt: skip


def handed_out(address: str) -> dict[str, float]:
    """What the allocators of the server say that is in use, by unit."""
    answer = httpx.get(f"{address}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    found = dict(
        re.findall(r"^rad3d_(malloc_bytes|python_blocks) (\S+)$", answer.text, re.MULTILINE)
    )
    return {
        "MB of malloc": float(found["malloc_bytes"]) / 2**20,
        "thousand Python blocks": float(found["python_blocks"]) / 1000,
    }


def slope_of(x: list[int], y: list[float]) -> tuple[float, float]:
    """Slope of a line through the points, and half the width of its 95% interval."""
    line = stats.linregress(x, y)
    return float(line.slope), float(stats.t.ppf(0.975, len(x) - 2) * line.stderr)


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the sizes that the project promises")
    parser.add_argument("--variant", default="phantom-s/v3")
    args = parser.parse_args()
    full = args.full
    args.visitors, args.reports, args.slices = (50, 10, 20) if full else (6, 3, 8)
    args.queue, args.over, args.leaving = (10, 20, 5) if full else (3, 8, 2)
    args.many = 200 if full else 16
    with server(args.queue) as (address, pid):
        samples = [
            path.name.removesuffix(".nii.gz")
            for path in sorted((ROOT / "assets" / "samples").glob("*.nii.gz"))
        ]
        browse(address, samples[0], 1, Times())  # the first visitor pays for loading
        first = Asked(address, samples[0], args.variant)
        first.run()
        first.close()
        print(f"{args.variant}, {os.cpu_count()} processors, {time.strftime('%Y-%m-%d')}")
        crowd(address, args, samples, Times())
        burst(address, args, samples)
        leave(address, args, samples)
        memory(address, pid, args, samples)


if __name__ == "__main__":
    main()
