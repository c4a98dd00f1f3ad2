"""Reads the cases of CT-RATE, of INSPECT and of anybody's folder, and tables of labels.

Nothing is copied or renamed. A row that cannot be used is dropped and counted; a scan that is not
there is a failure of every system on that case only when the scan is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.files import as_spelled
from rad3d.core.ids import REPEATED, SCAN_SUFFIXES, scan_id
from rad3d.core.labels import LABELS
from rad3d.core.tables import TableRow, open_table
from rad3d.data.predictions import Columns, read_references, report_of
from rad3d.data.samples import Dropped, Sample, SampleSet

_CT_RATE_REPORTS = {"train": ("train_reports.csv",), "valid": ("validation_reports.csv",)}
_CT_RATE_SECTIONS = ("Findings_EN", "Impressions_EN")
_INSPECT_SPLITS = ("train", "valid", "test")

Row = Mapping[str, str]


def read_ct_rate(folder: Path, split: str = "", labelled: bool = True) -> SampleSet:
    """The cases of a CT-RATE folder as downloaded from the hub (Hamamci et al. 2024).

    Args:
        folder: holds ``valid`` or ``valid_fixed``, ``radiology_text_reports`` and
            ``multi_abnormality_labels``, or a ``dataset`` folder that does.
        split: ``"valid"`` (default) or ``"train"``.
        labelled: read the labels and drop cases without; False needs no table of them.
    """
    split = split or "valid"
    if split not in _CT_RATE_REPORTS:
        raise UnknownName("split of CT-RATE", split, list(_CT_RATE_REPORTS))
    root = _folder(folder)
    root = root / "dataset" if (root / "dataset").is_dir() else root
    reports = _one_of(root / "radiology_text_reports", _CT_RATE_REPORTS[split])
    labels = _ct_rate_labels(root, split) if labelled else {}
    volumes = next((d for d in (root / f"{split}_fixed", root / split) if d.is_dir()), root / split)
    samples: dict[str, Sample] = {}
    dropped: list[Dropped] = []
    for row in _rows(reports, ("VolumeName", *_CT_RATE_SECTIONS)):
        id_ = scan_id(row.cells.get("VolumeName", ""))
        text = _report(*(row.cells.get(name, "") for name in _CT_RATE_SECTIONS))
        reason = row.problem or _problem(id_, text, samples)
        if not reason and labelled and id_ not in labels:
            reason = "without labels"
        if reason:
            dropped.append(Dropped(id_ or f"line {row.line}", reason))
            continue
        patient, scan = "_".join(id_.split("_")[:2]), "_".join(id_.split("_")[:3])
        path = volumes / patient / scan / f"{id_}.nii.gz"
        known = _labels(labels[id_], id_) if labelled else None
        samples[id_] = Sample(id_, text, known, scan=str(path))
    return SampleSet(
        f"ct-rate-{split}", f"CT-RATE, {split}", tuple(samples.values()), split=split,
        licence="CC BY-NC-SA 4.0", dropped=tuple(dropped),
    )  # fmt: skip


def _ct_rate_labels(root: Path, split: str) -> dict[str, Row]:
    """Id -> row of the table of labels."""
    table = _one_of(root / "multi_abnormality_labels", (f"{split}_predicted_labels.csv",))
    return {scan_id(name): row for name, row in _lookup(table, "VolumeName", LABELS).items()}


def read_inspect(folder: Path, split: str = "") -> SampleSet:
    """The cases of an INSPECT folder (Huang et al. 2023): CT angiograms with impressions.

    Args:
        folder: holds ``CTPA``, the impressions (``impressions_*.tsv`` or
            ``Final_Impressions.csv``), ``splits_*.tsv`` and ``study_mapping_*.tsv``, or a ``full``
            folder that does.
        split: ``"test"`` (default), ``"valid"`` or ``"train"``.
    """
    split = split or "test"
    if split not in _INSPECT_SPLITS:
        raise UnknownName("split of INSPECT", split, list(_INSPECT_SPLITS))
    root = _folder(folder)
    root = root / "full" if (root / "full").is_dir() else root
    impressions = _newest(root, ("impressions_*.tsv", "impressions_*.csv", "Final_Impressions.csv"))
    texts = _lookup(impressions, "impression_id", ("impressions",))
    mapping = _newest(root, ("study_mapping_*.tsv", "study_mapping_*.csv"))
    images = _lookup(mapping, "impression_id", ("image_id",))
    samples: dict[str, Sample] = {}
    dropped: list[Dropped] = []
    splits = _newest(root, ("splits_*.tsv", "splits_*.csv"))
    for row in _rows(splits, ("impression_id", "split")):
        if row.cells.get("split", split) != split:
            continue
        id_ = row.cells.get("impression_id", "").strip()
        text = _report("", texts[id_]["impressions"] if id_ in texts else "")
        reason = row.problem or _problem(id_, text, samples)
        reason = reason or ("" if id_ in images else "without an image")
        if reason:
            dropped.append(Dropped(id_ or f"line {row.line}", reason))
            continue
        image = scan_id(images[id_]["image_id"])
        samples[id_] = Sample(id_, text, scan=str(root / "CTPA" / f"{image}.nii.gz"))
    return SampleSet(
        f"inspect-{split}", f"INSPECT, {split}", tuple(samples.values()), split=split,
        licence="Stanford University Dataset Research Use Agreement", dropped=tuple(dropped),
    )  # fmt: skip


def read_folder(folder: Path, csv_name: str = "", columns: Columns | None = None) -> SampleSet:
    """The cases of a person's own folder: one CSV of references beside or above the scans.

    Args:
        folder: holds the CSV.
        csv_name: of the CSV, where there is more than one.
        columns: of the CSV where they are not ``id`` and ``reference``.

    A scan is the file in the column ``scan``, or else the only one below the folder that is called
    ``<id>`` and ends with one of :data:`SCAN_SUFFIXES`. It must lie inside the folder.
    """
    root = _folder(folder).resolve()
    table = _table(root, csv_name)
    names = columns or Columns()
    cases = read_references(table, columns=names)
    stated = {
        scan_id(row.cells[names.id]): row.cells["scan"].strip()
        for row in _rows(table, (names.id,), ("scan",))
        if row.cells.get("scan", "").strip()
    }
    found = _scans(root)
    samples, dropped = [], list(cases.dropped)
    for sample in cases.samples:
        if sample.id in stated:
            path = as_spelled(root / stated[sample.id]).resolve()
            reason = "" if path.is_relative_to(root) else "with a scan outside the folder"
        else:
            matches = found.get(sample.id) or found.get(sample.id.rpartition("/")[2], [])
            path = matches[0] if matches else root / f"{sample.id}.nii.gz"
            reason = "with several scans of its name" if len(matches) > 1 else ""
        if reason:
            dropped.append(Dropped(sample.id, reason))
        else:
            samples.append(replace(sample, scan=str(path)))
    return SampleSet(
        f"folder-{table.stem}", root.name, tuple(samples), split="", dropped=tuple(dropped),
        notes=cases.notes,
    )  # fmt: skip


@dataclass(frozen=True)
class LabelTable:
    """The 18 labels of scans, and whose scans they are.

    Attributes:
        labels: id -> 0 or 1 for each label, in published order.
        patients: id -> patient; the scans of one patient belong together.
    """

    labels: Mapping[str, tuple[int, ...]]
    patients: Mapping[str, str]


def read_label_table(path: Path, patient_column: str = "") -> LabelTable:
    """A CSV or TSV of labels: CT-RATE's ``multi_abnormality_labels``, or one's own.

    Args:
        path: has the column ``VolumeName`` or ``id``, and one for each of the 18 labels, with 0 or
            1. A suffix such as ``.nii.gz`` of a name does not count.
        patient_column: says whose scan a row is; without it, see :func:`patient_of`.

    Raises:
        BadRequest: there is no such file, an id is there twice, or a label is neither 0 nor 1.
        UnknownName: a column is missing.
    """
    labels: dict[str, tuple[int, ...]] = {}
    patients: dict[str, str] = {}
    wanted = (*LABELS, *filter(None, [patient_column]))
    with open_table(path, wanted, known=("VolumeName", "id")) as table:
        column = table.first_of("VolumeName", "id")
        for row in table.complete():
            id_ = scan_id(row.cells[column].strip())
            patient = row.cells[patient_column].strip() if patient_column else patient_of(id_)
            if not id_ or not patient or id_ in labels:
                problem = "twice" if id_ in labels else "without an id or patient"
                raise BadRequest(
                    f"{path.name} has {id_ or 'a row'} {problem} (line {row.line}).",
                    "Give every scan one row.",
                    code="bad_labels",
                )
            labels[id_], patients[id_] = _labels(row.cells, id_), patient
    if not labels:
        raise BadRequest(f"{path.name} has no rows.", "Check the file.", code="bad_labels")
    return LabelTable(labels, patients)


def patient_of(id_: str) -> str:
    """``train_1_a_2``, as CT-RATE names its volumes, is of ``train_1``; any other id stands alone.

    CT-RATE's names are split, patient, scan and reconstruction.
    """
    named = re.fullmatch(r"((?:train|valid)_\d+)_[a-z]+_\d+", id_)
    return named[1] if named else id_


def _table(root: Path, name: str) -> Path:
    if name:
        return _one_of(root, (name,))
    tables = sorted([*root.glob("*.csv"), *root.glob("*.tsv")])
    if len(tables) != 1:
        what = "no CSV" if not tables else f"{len(tables)} tables"
        raise BadRequest(
            f"The folder {root.name} holds {what}.",
            "It needs one with the columns id and reference; name it after a #.",
            code="no_table",
        )
    return tables[0]


def _scans(root: Path) -> dict[str, list[Path]]:
    """Id -> scans of that name below a folder."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.name.lower().endswith(SCAN_SUFFIXES) and path.is_file():
            found.setdefault(scan_id(path.name), []).append(path)
    return found


def _folder(path: Path) -> Path:
    path = path.expanduser().absolute()
    if not path.is_dir():
        raise BadRequest(f"There is no folder {path}.", "Check the path.", code="no_folder")
    return path


def _one_of(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise BadRequest(
        f"{folder.name} holds no {names[0]}.",
        "Point to the folder as it was downloaded.",
        code="no_file",
    )


def _newest(folder: Path, patterns: Sequence[str]) -> Path:
    """The last file by name of the first pattern that matches."""
    for pattern in patterns:
        if found := sorted(folder.glob(pattern)):
            return found[-1]
    raise BadRequest(
        f"{folder.name} holds no {patterns[0]}.",
        "Point to the folder as it was downloaded.",
        code="no_file",
    )


def _rows(path: Path, columns: Sequence[str], known: Sequence[str] = ()) -> list[TableRow]:
    with open_table(path, columns, known=known) as table:
        return list(table)


def _lookup(path: Path, key: str, columns: Sequence[str]) -> dict[str, Row]:
    """Rows by the cell of a column, the last one of each; every row must be whole."""
    with open_table(path, (key, *columns)) as table:
        return {row.cells[key].strip(): row.cells for row in table.complete()}


def _report(findings: str, impression: str) -> str:
    """Both sections with their headings, as the models write them."""
    parts = (("Findings", report_of(findings)), ("Impression", report_of(impression)))
    return "\n".join(f"{name}: {text}" for name, text in parts if text)


def _problem(id_: str, text: str, seen: Mapping[str, Sample]) -> str:
    if not id_:
        return "without an id"
    if id_ in seen:
        return REPEATED
    return "" if text else "without a reference"


def _labels(row: Row, id_: str) -> tuple[int, ...]:
    for label in LABELS:
        if _number(row[label]) not in (0.0, 1.0):
            raise BadRequest(
                f"{label} of {id_} is {row[label]!r}, neither 0 nor 1.",
                "Correct the table of labels.",
                code="bad_labels",
            )
    return tuple(int(_number(row[label])) for label in LABELS)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
