"""A short run of benchmarks/fuzz.py, and what longer runs have found."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "benchmarks"))

from fuzz import campaign, run_case
from mutations import make_case


@pytest.fixture(autouse=True)
def _handler_put_back() -> Iterator[None]:
    earlier = signal.getsignal(signal.SIGPROF)
    yield
    signal.signal(signal.SIGPROF, earlier)


@pytest.mark.slow
def test_damaged_scans_are_read_correctly_or_refused_in_a_sentence() -> None:
    outcomes, broken, figures = campaign(first=0, files=150, dicom=12, log=None)
    assert broken == []
    assert sum(outcomes.values()) == 162
    assert outcomes["read"] > 20, "some survive their damage"
    assert len(outcomes) > 8, "for many reasons"
    assert figures.slowest_s > 0


def test_a_number_always_makes_the_same_file() -> None:
    for number, dicom in ((7, False), (7, True)):
        assert make_case(number, dicom) == make_case(number, dicom)


@pytest.mark.parametrize(
    ("number", "found"),
    [
        (40, "an LZMA stream that is damaged inside a zip"),
        (125, "a deflate stream that is damaged inside a zip"),
        (284, "a damaged sform code whose matrix was trusted"),
        (286, "damaged sform and qform codes that were taken for an orientation"),
    ],
)
def test_what_was_found_stays_found(number: int, found: str, tmp_path: Path) -> None:
    outcome = run_case(make_case(number), tmp_path)
    assert not outcome.startswith("BROKEN"), f"{found}: {outcome}"
