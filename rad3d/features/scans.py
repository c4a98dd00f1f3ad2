"""Finds the scans to encode: in a folder, a listing, or the cases of a data set.

Ids are those of the evaluation: file names without their suffix, so that CT-RATE's volumes are
called as its tables call them. Where several scans share a name, their places below the folder
become their ids, and where two of those differ by their suffix alone, it stays.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rad3d.core.errors import BadRequest
from rad3d.core.files import as_spelled
from rad3d.core.ids import SCAN_SUFFIXES, scan_id
from rad3d.core.tables import open_table
from rad3d.core.text_lines import read_lines
from rad3d.data.layouts import CT_RATE_FOLDERS, ct_rate_place
from rad3d.data.sample_sets import LAYOUTS, data_set, load_set
from rad3d.data.spec import SetSpec

VOLUME_NAME = "VolumeName"
PATH_COLUMNS = ("path", "scan", "file")
LISTINGS = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Scan:
    """A scan to encode: what its features are called, and where it should lie."""

    id: str
    path: Path


@dataclass(frozen=True)
class Part:
    """One of several parts of the work, divided by the hash of the id.

    So every process and machine finds its part alone, and another division later misses nothing.

    Attributes:
        index: which, from 0.
        count: of how many.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise BadRequest(
                f"There is no part {self.index + 1} of {self.count}.",
                "Parts are counted from 1, such as 1/4, 2/4, 3/4 and 4/4.",
                code="bad_option",
            )

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read ``"3/16"``, the third of sixteen parts."""
        first, _, count = text.partition("/")
        if not (first.isdecimal() and count.isdecimal()):
            raise BadRequest(
                f"{text!r} is no part.", "Give the third of sixteen as 3/16.", code="bad_option"
            )
        return cls(int(first) - 1, int(count))

    def part(self, index: int, count: int) -> Part:
        """A part of this part."""
        return Part(self.index + self.count * index, self.count * count)

    def holds(self, id_: str) -> bool:
        """True where a case belongs to this part."""
        number = int.from_bytes(hashlib.sha256(id_.encode()).digest()[:8], "big")
        return number % self.count == self.index


def find_scans(source: str, root: Path | None = None) -> tuple[tuple[Scan, ...], str]:
    """The scans of a source, by id, whether their files are there or not; and what was left out.

    Args:
        source: a folder, a scan, a CSV or text file that lists scans, or a data set as the
            evaluation names it, such as ``ct-rate:DIR#train``.
        root: what the paths of a listing are relative to; its own folder by default.

    Raises:
        BadRequest: there is no such thing, or it lists no scan.
    """
    path = Path(source).expanduser()
    left_out = ""
    if path.is_dir():
        scans = _named(files_below(path, SCAN_SUFFIXES), path)
    elif path.is_file() and path.name.lower().endswith(SCAN_SUFFIXES):
        scans = _named([path], path.parent)
    elif path.is_file():
        scans = _listed(path, (root or path.parent).expanduser())
    elif spec := data_set(source):
        scans, left_out = _cases(spec)
    else:
        raise BadRequest(
            f"There is no folder or file {source}.",
            f"Data sets are given as {', '.join(f'{name}:DIR' for name in LAYOUTS)}.",
            code="no_file",
        )
    if not scans:
        raise BadRequest(
            f"{source} holds no scan.",
            f"Scans end with {', '.join(SCAN_SUFFIXES)}.",
            code="no_scans",
        )
    return tuple(sorted(scans, key=lambda scan: scan.id)), left_out


def files_below(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Every file with one of these suffixes; links are followed, but no folder is entered twice.

    Raises:
        OSError: a folder cannot be read; what it holds would be missed in silence.
    """
    entered: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=_raised, followlinks=True):
        place = os.path.realpath(folder)
        if place in entered:
            folders.clear()
            continue
        entered.add(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(suffixes) and not name.startswith("."):
                yield Path(folder, name)


def _raised(error: OSError) -> None:
    raise error


def _named(paths: Iterable[Path], root: Path) -> list[Scan]:
    """Names as ids where they are unique, else places below the folder, else these with suffix."""
    files = list(dict.fromkeys(paths))
    choices = [_ids(path, root) for path in files]
    counts = [Counter(level) for level in zip(*choices, strict=True)]
    ids = [
        next((i for i, count in zip(several, counts, strict=True) if count[i] == 1), several[-1])
        for several in choices
    ]
    if repeated := [id_ for id_, n in Counter(ids).items() if n > 1]:
        raise BadRequest(
            f"Two scans would be called {repeated[0]}.", "Rename one.", code="duplicate_names"
        )
    return [Scan(id_, path) for id_, path in zip(ids, files, strict=True)]


def _ids(path: Path, root: Path) -> tuple[str, str, str]:
    """Possible ids of a scan, from short to unique; bytes that are no text are escaped."""
    place = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
    ids = scan_id(path.name), scan_id(place), unicodedata.normalize("NFC", place)
    name, short, full = (id_.encode("utf-8", "backslashreplace").decode("utf-8") for id_ in ids)
    return name, short, full


def _listed(listing: Path, root: Path) -> list[Scan]:
    suffix = listing.suffix.lower()
    if suffix not in LISTINGS:
        raise BadRequest(
            f"{listing.name} is neither a scan nor a listing.",
            f"Scans end with {', '.join(SCAN_SUFFIXES)}, listings with {', '.join(LISTINGS)}.",
            code="bad_listing",
        )
    if suffix == ".txt":
        return _named((as_spelled(root / line) for line in read_lines(listing)), root)
    with open_table(listing, known=(VOLUME_NAME, *PATH_COLUMNS)) as table:
        column = table.first_of(VOLUME_NAME, *PATH_COLUMNS)
        cells = [row.cells[column].strip() for row in table.complete()]
    place = _ct_rate_path if column == VOLUME_NAME else Path.joinpath
    return _named((as_spelled(place(root, cell)) for cell in cells if cell), root)


def _ct_rate_path(root: Path, name: str) -> Path:
    """The path of a volume of CT-RATE: below a root, a split's folder, or the download's root."""
    place, split = ct_rate_place(name), scan_id(name).partition("_")[0]
    folders = [part.format(split=split) for part in CT_RATE_FOLDERS]
    parts = [root, *(root / part for part in folders), *(root / "dataset" / p for p in folders)]
    paths = (root / name, root / place.name, *(part / place for part in parts))
    return next((path for path in paths if path.is_file()), root / place)


def _cases(spec: SetSpec) -> tuple[list[Scan], str]:
    samples, _ = load_set(spec)
    reasons = Counter(row.reason for row in samples.dropped)
    reasons["without a scan"] += sum(not sample.scan for sample in samples.samples)
    scans = [Scan(sample.id, Path(sample.scan)) for sample in samples.samples if sample.scan]
    return scans, ", ".join(f"{n} {reason}" for reason, n in reasons.items() if n)
