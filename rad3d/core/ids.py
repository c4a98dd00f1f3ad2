"""Ids of scans: one rule for tables, folders, feature files and predictions."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection

SCAN_SUFFIXES = (".nii.gz", ".nii", ".zip")
"""Suffixes of files that are read as scans."""

NAME_SUFFIXES = (
    *SCAN_SUFFIXES, ".tar.gz", ".tgz", ".mha", ".mhd", ".nrrd", ".dcm", ".npz", ".npy", ".pt",
)  # fmt: skip
"""Suffixes of all files that are named after scans."""

REPEATED = "with an id that was there before"
REPEATED_BUT_FOR_SUFFIX = f"{REPEATED}, but for a suffix such as .nii.gz"


def scan_id(name: object) -> str:
    """The id of a scan from what a person or a program calls it.

    That is its name without suffixes, as in ``train_1_a_1.nii.gz``, and with composed letters,
    which macOS takes apart in file names. Folders before it stay: they may tell two scans apart,
    see :func:`matched`.
    """
    text = unicodedata.normalize("NFC", str(name)).strip().replace("\\", "/")
    if re.fullmatch(r"\d+\.0", text):  # a whole number that pandas kept among missing ones
        return text[:-2]
    while suffix := next((s for s in NAME_SUFFIXES if text.lower().endswith(s)), ""):
        text = text[: -len(suffix)]
    return text.removeprefix("./")


def matched(ids: Collection[str], known: Collection[str]) -> dict[str, str]:
    """The known id that each of these ids means: itself, or else the one of the same file name.

    So ``"fold1/train_1_a_1"`` means ``"train_1_a_1"``, unless that is among the ids itself, or
    several ids of one side end so.

    Args:
        ids: to be found, from :func:`scan_id`.
        known: among these, likewise.
    """
    there = set(known)
    matches = {id_: id_ for id_ in ids if id_ in there}
    if len(matches) == len(ids):
        return matches
    by_name = _by_last_part(ids)
    for last, one in _by_last_part(known).items():
        if last in by_name and by_name[last] not in matches and one not in matches:
            matches[by_name[last]] = one
    return matches


def repeated(name: str, first: str) -> str:
    """The reason why a row is left out when an earlier row has the same id."""
    return REPEATED if name.strip() == first.strip() else REPEATED_BUT_FOR_SUFFIX


def _by_last_part(ids: Collection[str]) -> dict[str, str]:
    """Last part of the path -> id, where one id alone has it."""
    counts = Counter(id_.rpartition("/")[2] for id_ in ids)
    return {last: id_ for id_ in ids if counts[last := id_.rpartition("/")[2]] == 1}
