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
from rad3d.core.labels import CT_RATE, Label, LabelSet
from rad3d.core.tables import (
    SCAN_COLUMNS,
    TableRow,
    cell_text,
    label_columns,
    labels_of_row,
    open_table,
)
from rad3d.data.predictions import Columns, language_notes, read_entries
from rad3d.data.samples import Dropped, Sample, SampleSet

_CT_RATE_REPORTS = {"train": "train_reports.csv", "valid": "validation_reports.csv"}
_CT_RATE = Columns("VolumeName", ("Findings=Findings_EN", "Impression=Impressions_EN"))
_INSPECT_SPLITS = ("train", "valid", "test")
_INSPECT = Columns("impression_id", ("Impression=impressions",))


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
    root = _folder(folder, "dataset")
    reports = _file(root / "radiology_text_reports", _CT_RATE_REPORTS[split])
    labels: Mapping[str, tuple[int, ...]] = {}
    if labelled:
        table = _file(root / "multi_abnormality_labels", f"{split}_predicted_labels.csv")
        labels = read_label_table(table).labels
    folders = (root / name.format(split=split) for name in CT_RATE_FOLDERS)
    volumes = next((each for each in folders if each.is_dir()), root / split)
    cases = read_entries(reports, _CT_RATE)
    samples, dropped = [], list(cases.dropped)
    for id_, text in cases.references.items():
        if labelled and id_ not in labels:
            dropped.append(Dropped(id_, "without labels"))
            continue
        scan = str(volumes / ct_rate_place(id_))
        samples.append(Sample(id_, text, labels.get(id_), scan=scan, patient=patient_of(id_)))
    return SampleSet(
        f"ct-rate-{split}", f"CT-RATE, {split}", tuple(samples), split=split,
        licence="CC BY-NC-SA 4.0", dropped=tuple(dropped),
    )  # fmt: skip


CT_RATE_FOLDERS = ("{split}_fixed", "{split}")
"""Folders of the volumes of a split, the corrected ones first."""


def ct_rate_place(name: str) -> Path:
    """The place of a volume in CT-RATE: ``train_1/train_1_a/train_1_a_1.nii.gz``."""
    words = scan_id(name).split("_")
    file = name if name.lower().endswith(SCAN_SUFFIXES) else f"{name}.nii.gz"
    return Path("_".join(words[:2]), "_".join(words[:3]), file)


def read_inspect(folder: Path, split: str = "") -> SampleSet:
    """The cases of an INSPECT folder (Huang et al. 2023): CT angiograms with impressions.

    Args:
        folder: holds ``CTPA``, the impressions (``impressions_*.tsv`` or
            ``Final_Impressions.csv``), ``splits_*.tsv`` and ``study_mapping_*.tsv``, or a ``full``
            folder that does. Where the mapping has ``person_id``, that is the patient.
        split: ``"test"`` (default), ``"valid"`` or ``"train"``.
    """
    split = split or "test"
    if split not in _INSPECT_SPLITS:
        raise UnknownName("split of INSPECT", split, list(_INSPECT_SPLITS))
    root = _folder(folder, "full")
    reports = _newest(root, ("impressions_*.tsv", "impressions_*.csv", "Final_Impressions.csv"))
    texts = read_entries(reports, _INSPECT).references
    mapping = _newest(root, ("study_mapping_*.tsv", "study_mapping_*.csv"))
    with open_table(mapping, (_INSPECT.id, "image_id"), known=("person_id",)) as table:
        images = {scan_id(row.cells[_INSPECT.id]): row.cells for row in table.complete()}
    samples: dict[str, Sample] = {}
    dropped: list[Dropped] = []
    splits = _newest(root, ("splits_*.tsv", "splits_*.csv"))
    for row in _rows(splits, (_INSPECT.id, "split")):
        if row.cells.get("split", split) != split:
            continue
        id_ = scan_id(row.cells.get(_INSPECT.id, ""))
        reason = row.problem or (
            "without an id" if not id_
            else REPEATED if id_ in samples
            else "without a reference" if id_ not in texts
            else "" if id_ in images else "without an image"
        )  # fmt: skip
        if reason:
            dropped.append(Dropped(id_ or f"line {row.line}", reason))
            continue
        scan = str(root / "CTPA" / f"{scan_id(images[id_]['image_id'])}.nii.gz")
        patient = images[id_].get("person_id", "").strip()
        samples[id_] = Sample(id_, texts[id_], scan=scan, patient=patient)
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
    cases = read_entries(table, names)
    scans = _scans(root)
    samples, dropped = [], list(cases.dropped)
    for sample in cases.samples(names):
        if stated := (cell_text(cases.cells[sample.id].get("scan")) or ""):
            path = as_spelled(root / stated).resolve()
            reason = "" if path.is_relative_to(root) else "with a scan outside the folder"
        else:
            matches = scans.get(sample.id) or scans.get(sample.id.rpartition("/")[2], [])
            path = matches[0] if matches else root / f"{sample.id}.nii.gz"
            reason = "with several scans of its name" if len(matches) > 1 else ""
        if reason:
            dropped.append(Dropped(sample.id, reason))
        else:
            samples.append(replace(sample, scan=str(path)))
    return SampleSet(
        f"folder-{table.stem}", root.name, tuple(samples), split="", dropped=tuple(dropped),
        notes=(*cases.notes, *language_notes(samples)), label_set=names.label_set,
    )  # fmt: skip


@dataclass(frozen=True)
class LabelTable:
    """The labels of scans, and whose scans they are.

    Attributes:
        labels: id -> 0 or 1 for each label, in their order.
        patients: id -> patient; the scans of one patient belong together.
        label_set: which labels.
    """

    labels: Mapping[str, tuple[int, ...]]
    patients: Mapping[str, str]
    label_set: LabelSet = CT_RATE


def read_label_table(
    path: Path, patient_column: str = "", label_set: LabelSet | None = CT_RATE
) -> LabelTable:
    """A CSV or TSV of labels: CT-RATE's ``multi_abnormality_labels``, or one's own.

    Args:
        path: has the column ``VolumeName`` or ``id``, and one for each label, with 0 or 1. A
            suffix such as ``.nii.gz`` of a name does not count.
        patient_column: says whose scan a row is; without it, see :func:`patient_of`.
        label_set: the labels; None for whatever the other columns are called.

    Raises:
        BadRequest: there is no such file, an id is there twice, or a label is neither 0 nor 1.
        UnknownName: a column is missing.
    """
    labels: dict[str, tuple[int, ...]] = {}
    patients: dict[str, str] = {}
    required = tuple(filter(None, [patient_column]))
    known = (*SCAN_COLUMNS, *(label_set.names if label_set else ()))
    with open_table(path, required, known=known) as table:
        label_set = label_set or _own_set(path, table.columns, patient_column)
        label_columns(table.columns, label_set, path.name)
        for id_, row in table.by_scan("bad_labels"):
            patient = row.cells[patient_column].strip() if patient_column else patient_of(id_)
            if not patient:
                raise BadRequest(
                    f"Line {row.line} of {path.name} holds no patient.",
                    "Give every scan its patient.",
                    code="bad_labels",
                )
            labels[id_], patients[id_] = labels_of_row(row.cells, label_set, id_) or (), patient
    if not labels:
        raise BadRequest(f"{path.name} has no rows.", "Check the file.", code="bad_labels")
    return LabelTable(labels, patients, label_set)


def _own_set(path: Path, columns: Sequence[str], patient_column: str) -> LabelSet:
    """The columns of a table that name neither the scan nor the patient, as labels."""
    names = [name for name in columns if name not in (*SCAN_COLUMNS, patient_column)]
    id_ = re.sub(r"[^A-Za-z0-9]+", "-", path.stem).strip("-")[:40] or "own"
    return LabelSet(id_, path.name, tuple(map(Label, names)))


def patient_of(id_: str) -> str:
    """``train_1_a_2``, as CT-RATE names its volumes, is of ``train_1``; any other id stands alone.

    CT-RATE's names are split, patient, scan and reconstruction.
    """
    named = re.fullmatch(r"((?:train|valid)_\d+)_[a-z]+_\d+", id_)
    return named[1] if named else id_


def _table(root: Path, name: str) -> Path:
    if name:
        return _file(root, name)
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
    scans: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.name.lower().endswith(SCAN_SUFFIXES) and path.is_file():
            scans.setdefault(scan_id(path.name), []).append(path)
    return scans


def _folder(path: Path, inside: str = "") -> Path:
    """The folder, or the one of this name that it holds."""
    path = path.expanduser().absolute()
    if not path.is_dir():
        raise BadRequest(f"There is no folder {path}.", "Check the path.", code="no_folder")
    return path / inside if (path / inside).is_dir() else path


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise _absent(folder, name)
    return folder / name


def _newest(folder: Path, patterns: Sequence[str]) -> Path:
    """The last file by name of the first pattern that matches."""
    for pattern in patterns:
        if paths := sorted(folder.glob(pattern)):
            return paths[-1]
    raise _absent(folder, patterns[0])


def _absent(folder: Path, name: str) -> BadRequest:
    return BadRequest(
        f"{folder.name} holds no {name}.",
        "Point to the folder as it was downloaded.",
        code="no_file",
    )


def _rows(path: Path, columns: Sequence[str]) -> list[TableRow]:
    with open_table(path, columns) as table:
        return list(table)
