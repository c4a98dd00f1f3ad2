"""Sample sets: the phantoms that ship, and everything that is read by path.

The shipped sets are seeds: truth, report and scan follow from them on every machine. The table
:data:`LAYOUTS` reads folders and files; its loaders are in rad3d.data.layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.data.layouts import read_ct_rate, read_folder, read_inspect
from rad3d.data.predictions import read_predictions, read_references
from rad3d.data.samples import PredictionSet, Sample, SampleSet
from rad3d.data.spec import SetSpec
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.phantom.cohort import case_id
from rad3d.synthetic.truth import draw_truth

PHANTOM = "phantom:"
"""Begins :attr:`Sample.scan` where the scan is rendered: ``phantom:<domain>:<seed>``."""


@dataclass(frozen=True)
class PhantomSplit:
    """Phantoms of consecutive seeds.

    Attributes:
        id: also the name of its file of features.
        name: shown to people.
        domain: ``"in"`` or ``"out"``.
        first, n: the seeds ``first`` to ``first + n - 1``.
        split: ``"test"``, or what else the models know the phantoms from.
        description: one sentence.
    """

    id: str
    name: str
    domain: str
    first: int
    n: int
    split: str
    description: str

    def sample_set(self, n: int | None = None) -> SampleSet:
        """The first ``n`` cases with their truth and reports; nothing is rendered."""
        seeds = range(self.first, self.first + (self.n if n is None else n))
        return SampleSet(
            id=self.id,
            name=self.name,
            samples=tuple(_phantom(seed, self.domain) for seed in seeds),
            split=self.split,
            domain=self.domain,
            licence="Apache-2.0",
        )

    def scans(self) -> tuple[Sample, ...]:
        """Ids and scans alone, without the reports that take most of the time to write."""
        seeds = range(self.first, self.first + self.n)
        return tuple(
            Sample(case_id(seed, self.domain), "", scan=_scan(seed, self.domain)) for seed in seeds
        )


PHANTOM_SPLITS: dict[str, PhantomSplit] = {
    row.id: row
    for row in (
        PhantomSplit(
            "phantom-in", "Phantoms, in domain", "in", 30_000, 200, "test",
            "Synthetic scans drawn as the training phantoms were, seen by no model.",
        ),
        PhantomSplit(
            "phantom-out", "Phantoms, out of domain", "out", 40_000, 200, "test",
            "Synthetic CT angiograms with other prevalence, protocol and style of report.",
        ),
        PhantomSplit(
            "phantom-train", "Phantoms, training", "in", 10_000, 1600, "train",
            "What the variants learned from; the baselines take their reports from it.",
        ),
    )
}  # fmt: skip

TRAINING = PHANTOM_SPLITS["phantom-train"]

SAMPLE_SETS: dict[str, PhantomSplit] = {
    row.id: row for row in PHANTOM_SPLITS.values() if row.split == "test"
}
"""The shipped sets that systems are compared on."""

Loaded = tuple[SampleSet, PredictionSet | None]
"""The cases, and for a predictions file what was written about them."""


@dataclass(frozen=True)
class Layout:
    """A way in which cases lie in a folder or file.

    Attributes:
        id: on the command line: ``<id>:<path>``.
        name: shown to people.
        description: what is expected where.
        load: reads it; its second argument is False where nobody needs labels.
        is_split: it has the splits ``"train"`` and ``"valid"``.
    """

    id: str
    name: str
    description: str
    load: Callable[[SetSpec, bool], Loaded]
    is_split: bool = False


def _predictions(spec: SetSpec, labelled: bool) -> Loaded:
    path = _file(spec.path)
    samples = None
    if spec.references in SAMPLE_SETS:
        samples = SAMPLE_SETS[spec.references].sample_set()
    elif spec.references:
        samples = read_references(_file(spec.references), columns=spec.columns)
    return read_predictions(path, columns=spec.columns, samples=samples, name=spec.name)


LAYOUTS: dict[str, Layout] = {
    row.id: row
    for row in (
        Layout(
            "ct-rate", "CT-RATE",
            "The folder with valid/ or valid_fixed/, radiology_text_reports/ and "
            "multi_abnormality_labels/.",
            lambda spec, labelled: (read_ct_rate(Path(spec.path), spec.split, labelled), None),
            is_split=True,
        ),
        Layout(
            "inspect", "INSPECT",
            "The folder with CTPA/, the impressions, splits_*.tsv and study_mapping_*.tsv.",
            lambda spec, _: (read_inspect(Path(spec.path), spec.split), None),
            is_split=True,
        ),
        Layout(
            "folder", "Your own folder",
            "A folder of scans with one CSV: id, reference, and where you have them the labels "
            "and scan (a path inside the folder; else <id>.nii.gz and the like).",
            lambda spec, _: (read_folder(Path(spec.path), spec.split, spec.columns), None),
        ),
        Layout(
            "predictions", "A predictions file",
            "CSV or JSON lines with id, reference, prediction; or VLM3D JSON with a file of "
            "references.",
            _predictions,
        ),
    )
}  # fmt: skip


def data_set(text: str) -> SetSpec | None:
    """The data set that a text names, such as ``ct-rate:DIR#train``; None where it names none."""
    spec = SetSpec.parse(text)
    return spec if spec.source in LAYOUTS and not Path(text).expanduser().exists() else None


def load_set(spec: SetSpec, limit: int = 0, labelled: bool = True) -> Loaded:
    """Read a sample set.

    Args:
        spec: which.
        limit: at most so many cases, the first ones; 0 is all.
        labelled: leave out the cases of CT-RATE without labels.

    Raises:
        UnknownName: there is no such set or layout.
        BadRequest: what lies there cannot be used; the sentence says why.
    """
    if spec.source in SAMPLE_SETS:
        row = SAMPLE_SETS[spec.source]
        shipped = row.sample_set(min(limit, row.n) if limit else None)
        return shipped.labelled_by(spec.columns.label_set), None
    if spec.source not in LAYOUTS:
        raise UnknownName(
            "sample set", spec.source, [*SAMPLE_SETS, *(f"{k}:PATH" for k in LAYOUTS)]
        )
    if not spec.path:
        raise BadRequest(
            f"{LAYOUTS[spec.source].name} needs a path.",
            f"Such as {spec.source}:/data/{spec.source}.",
            code="no_path",
        )
    samples, written = LAYOUTS[spec.source].load(spec, labelled)
    samples = samples.labelled_by(spec.columns.label_set)
    return (replace(samples, samples=samples.samples[:limit]) if limit else samples), written


def load_sets(
    specs: Sequence[SetSpec], limit: int = 0
) -> tuple[dict[str, SampleSet], tuple[PredictionSet, ...]]:
    """Several sets by id, and the predictions that were read from files.

    A predictions file about a set that is also chosen becomes one more system on that set. Raises
    BadRequest where two sets or two files have one name.
    """
    sets: dict[str, SampleSet] = {}
    files: list[PredictionSet] = []
    for spec in specs:
        samples, written = load_set(spec, limit)
        shipped = {spec.source, spec.references} & {samples.id}
        if samples.id in SAMPLE_SETS and not shipped:
            raise BadRequest(
                f"Cases of your own cannot be called {samples.id}, as a set that ships is.",
                "Rename the file or folder.",
                code="duplicate_names",
            )
        kept = sets.setdefault(samples.id, samples)
        if [s.id for s in kept.samples] != [s.id for s in samples.samples]:
            raise BadRequest(
                f"Two sets are called {samples.id}.", "Rename one file.", code="duplicate_names"
            )
        extra = tuple(d for d in samples.dropped if d not in kept.dropped)
        sets[samples.id] = replace(kept, dropped=(*kept.dropped, *extra))
        if written is None:
            continue
        if any((f.name, f.sample_set) == (written.name, written.sample_set) for f in files):
            raise BadRequest(
                f"Two files are called {written.name}.", "Rename one.", code="duplicate_names"
            )
        files.append(_limited(written, samples) if limit else written)
    return sets, tuple(files)


def _limited(written: PredictionSet, samples: SampleSet) -> PredictionSet:
    ids = {sample.id for sample in samples.samples}
    return replace(written, predictions=tuple(p for p in written.predictions if p.id in ids))


def _phantom(seed: int, domain: str) -> Sample:
    truth = draw_truth(seed, domain)
    return Sample(
        id=case_id(seed, domain),
        reference=write_report(truth, style=domain).text,
        labels=truth.labels(),
        findings=truth.findings,
        scan=_scan(seed, domain),
    )


def _scan(seed: int, domain: str) -> str:
    return f"{PHANTOM}{domain}:{seed}"


def _file(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise BadRequest(f"There is no file {path.name}.", "Check the path.", code="no_file")
    return path
