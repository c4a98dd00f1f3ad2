"""Counts the processor cores that this process may use, and those that are free now."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

LOOKS = 5
LOOK_SECONDS = 0.001
"""The number of running tasks is that of a moment; the median of a few moments is taken."""

_CGROUP = Path("/sys/fs/cgroup")
_STAT = Path("/proc/stat")


def usable_cores(group: Path = _CGROUP) -> int:
    """Cores that this process may use: those it may run on, or its control group's share if less.

    Args:
        group: where control groups are mounted; inside a container that is its own group.
    """
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(here, int(_quota(group) or here)))


def free_cores(stat: Path = _STAT) -> int:
    """Usable cores without those that other tasks keep busy now, at least 1.

    Other threads of this process count as others. Where the system does not say (Windows, macOS),
    all usable cores are free.
    """
    usable = usable_cores()
    if usable == 1:
        return 1
    looks = []
    for look in range(LOOKS):
        if look:
            time.sleep(LOOK_SECONDS)
        running = _running(stat)
        if running is None:
            return usable
        looks.append(running)
    others = statistics.median_low(looks) - 1  # without the thread that asks
    return max(1, min(usable, (os.cpu_count() or usable) - others))


def _running(stat: Path) -> int | None:
    try:
        lines = stat.read_text().splitlines()
    except OSError:
        return None
    counts = (int(line.split()[1]) for line in lines if line.startswith("procs_running "))
    return next(counts, None)


def _quota(group: Path) -> float:
    """Cores' worth of time that a control group (version 2 or 1) is given; 0 where all of it."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        folder = group / "cpu"
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        except OSError:
            return 0.0
    try:
        return max(0.0, int(quota) / int(period))
    except (ValueError, ZeroDivisionError):
        return 0.0  # "max", or -1
