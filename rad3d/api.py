"""The Python API: ``import rad3d`` offers what is defined here.

Objects that are returned show themselves in a notebook: a scan as three slices, a report beside its
diagnosis, a score as a table.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rad3d.core.errors import BadRequest
from rad3d.core.evidence import Evidence
from rad3d.core.findings import Finding
from rad3d.core.labels import LABELS, LabelSet
from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent, Event, GenerationOptions, Report, TextEvent, Volume
from rad3d.core.words import by

__all__ = ["Phantom", "Reporter", "Scan", "Score", "label", "load_scan", "phantom", "score"]

ScanSource = str | Path | Volume | tuple[npt.ArrayLike, npt.ArrayLike]
"""A path, a :class:`Volume`, or an (X, Y, Z) array in HU with its (4, 4) affine in mm (RAS+)."""

Texts = Sequence[str] | Mapping[str, str]

SOFT_TISSUE = (400.0, 40.0)
"""Width and centre of the window in which a scan shows itself, in HU."""


@dataclass(frozen=True)
class Scan(Volume):
    """A :class:`~rad3d.core.types.Volume` that shows three slices in a notebook."""

    def _repr_html_(self) -> str:
        from rad3d.volume.slices import VIEWS, encode_jpeg, render_slice

        pictures = []
        for plane, view in VIEWS.items():
            picture = render_slice(self, plane, self.shape[view.normal] // 2, *SOFT_TISSUE)
            data = base64.b64encode(encode_jpeg(picture)).decode()
            pictures.append(
                f'<img alt="{plane}" title="{plane}" style="height:220px" '
                f'src="data:image/jpeg;base64,{data}">'
            )
        warnings = "".join(f"<br>Warning: {escape(note.text)}" for note in self.warnings)
        size = f"{by(self.shape)} voxels of {by(self.spacing_mm, '.2f')} mm"
        caption = f"{escape(self.name)}: {size}{warnings}"
        return f"<div>{''.join(pictures)}<div>{caption}</div></div>"


@dataclass(frozen=True)
class WrittenReport(Report):
    """A :class:`~rad3d.core.types.Report` that shows itself beside its diagnosis in a notebook."""

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from rad3d.core.encoders import disclaimer

        line = disclaimer(bool(self.provenance.get("phantoms_only")))
        rows = "".join(
            f"<tr><td>{escape(row['label'])}</td><td>{row['probability']:.2f}</td>"
            f"<td>{'present' if row['present'] else ''}{' (edited)' if row['edited'] else ''}</td>"
            "</tr>"
            for row in self.diagnosis.to_rows()
        )
        text = escape(self.text).replace("\n", "<br>")
        head = "<tr><th>Finding</th><th>Probability</th><th></th></tr>"
        return (
            '<div style="display:flex;gap:2em;align-items:flex-start">'
            f'<div style="max-width:40em"><b>{escape(self.variant_id)}</b><p>{text}</p>'
            f"<small>{escape(line)}</small></div><table>{head}{rows}</table></div>"
        )


class Reporter:
    """Writes reports with one variant.

    >>> reporter = Reporter.from_pretrained("phantom-l/v3")  # doctest: +SKIP
    >>> print(reporter("scan.nii.gz").text)  # doctest: +SKIP

    Args:
        variant: a language model and a mode, as ``rad3d variants`` lists them.
        settings: places, device and precision; by default those of the ``RAD3D_`` variables.
    """

    def __init__(self, variant: str, settings: Settings | None = None) -> None:
        from rad3d.model.engine import Engine
        from rad3d.model.store import ModelStore

        self.variant = variant
        self._engine = Engine(ModelStore(settings or Settings.from_env()))
        self._engine.store.variant(variant)

    @classmethod
    def from_pretrained(
        cls, variant: str = "phantom-l/v3", *, models_dir: str | Path | None = None, **options: Any
    ) -> Reporter:
        """Load a variant.

        Args:
            variant: such as ``"phantom-l/v3"``.
            models_dir: where models lie; by default those that ship, or ``RAD3D_MODELS_DIR``.
            options: other fields of :class:`~rad3d.core.settings.Settings`, such as
                ``device="cpu"`` or ``precision="float32"``.

        Raises:
            Rad3dError: the variant is unknown, or has no weights here; the sentence names the
                command that makes them.
        """
        settings = Settings.from_env()
        if models_dir is not None:
            options["models_dir"] = Path(models_dir)
        unknown = sorted(set(options) - {field.name for field in fields(Settings)})
        if unknown:
            raise BadRequest(f"There is no option {unknown[0]}.", code="bad_option")
        return cls(variant, replace(settings, **options))

    def __call__(
        self,
        scan: ScanSource,
        *,
        insist: bool = False,
        edited: Mapping[str, float] | None = None,
        **options: Any,
    ) -> WrittenReport:
        """Write the report of one scan.

        Args:
            scan: a path, a volume, or ``(array, affine)``.
            insist: write a report even about a scan that is no chest.
            edited: finding -> a probability in place of the classifier's, such as
                ``{"Pleural effusion": 0.9}``; ``report.diagnosis.edited`` has the classifier's.
            options: fields of :class:`~rad3d.core.types.GenerationOptions`, such as
                ``strategy="sample"`` and ``seed=3``.

        Raises:
            BadVolume: the scan cannot be read, is no CT in HU, or is no chest; one sentence says
                why.
            UnknownName: an edited finding is none that the classifier knows.
        """
        for event in self.events(scan, insist=insist, edited=edited, **options):
            if isinstance(event, DoneEvent):
                report = event.report
        return WrittenReport(**{f.name: getattr(report, f.name) for f in fields(Report)})

    def where(self, scan: ScanSource, finding: str) -> Evidence:
        """Find where the classifier of the variant's encoder found its evidence for a finding.

        Args:
            scan: a path, a volume, or ``(array, affine)``.
            finding: such as ``"Pleural effusion"``.

        Returns:
            The strength of the evidence on a coarse grid of cells, with the affine to mm (RAS+),
            the strongest place, and how far such places can be trusted. It ``is_empty`` where no
            cell speaks for the finding.

        Raises:
            BadVolume: the scan cannot be read, or is no CT in HU.
            UnknownName: the classifier does not know the finding.
        """
        from rad3d.core.encoders import SHIPPED_ENCODER
        from rad3d.model.evidence import find_evidence, measured

        store = self._engine.store
        encoder = store.variant(self.variant).config.encoder or SHIPPED_ENCODER
        known = measured(store.models_dir, encoder, store.encoder(encoder).grid.id)
        return find_evidence(self._engine, load_scan(scan), finding, encoder, known.get(finding))

    def stream(self, scan: ScanSource, **options: Any) -> Iterator[str]:
        """The report in pieces as they are written; joined they are the report's text."""
        written = ""
        for event in self.events(scan, **options):
            if isinstance(event, TextEvent) and event.text.startswith(written):
                yield event.text[len(written) :]
                written = event.text

    def events(
        self,
        scan: ScanSource,
        *,
        insist: bool = False,
        edited: Mapping[str, float] | None = None,
        **options: Any,
    ) -> Iterator[Event]:
        """Everything that happens: stages, the diagnosis, text after every token, the report."""
        volume = load_scan(scan)
        if not insist:
            volume.check_reportable()
        return self._engine.stream(volume, self.variant, GenerationOptions(**options), None, edited)


def load_scan(scan: ScanSource) -> Scan:
    """Read and check a CT scan.

    Args:
        scan: a NIfTI file, a zipped DICOM series, a volume, or ``(array, affine)``: (X, Y, Z) HU
            with axes towards Right, Anterior, Superior, and voxel indices -> mm.

    Returns:
        The scan in HU; its ``notes`` say what was read and done.

    Raises:
        BadVolume: it cannot be read, or its values are not HU; one sentence says why.
    """
    if isinstance(scan, str | Path):
        from rad3d.volume.load import read_volume

        volume: Volume = read_volume(scan)
    elif isinstance(scan, Volume):
        volume = scan
    else:
        array, affine = scan
        hu = np.array(array)
        if hu.dtype != np.int16:
            hu = hu.astype(np.float32)
        volume = Volume.from_array(hu, np.array(affine, np.float64))
    return Scan(**{field.name: getattr(volume, field.name) for field in fields(Volume)})


def label(text: str, *, label_set: str | Path = "ct-rate") -> dict[str, int]:
    """The labels that a report states: label -> 1 where it is present, else 0.

    Args:
        text: of the report.
        label_set: ``"ct-rate"``, ``"inspect"``, or a file of your own.

    Raises:
        BadRequest: there is no such set, or a label of it cannot be read from reports.
    """
    from rad3d.reports.labeller import label_report

    labels = LabelSet.find(str(label_set))
    return dict(zip(labels.names, label_report(text, labels), strict=True))


@dataclass(frozen=True)
class Score:
    """What predictions reach against references.

    Attributes:
        figures: metric -> (value, lower, upper bound of the 95% interval); NaN where undefined.
        per_label: label -> precision, recall, f1, support, predicted.
        n: cases.
        failures: references without a prediction, which count as empty reports.
    """

    figures: dict[str, tuple[float, float, float]]
    per_label: dict[str, dict[str, float]]
    n: int
    failures: int

    def __getitem__(self, metric: str) -> float:
        return self.figures[metric][0]

    def _repr_html_(self) -> str:
        from rad3d.metrics.bootstrap import span

        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{value:.3f}</td><td>{span(low, high)}</td></tr>"
            for name, (value, low, high) in self.figures.items()
        )
        head = f"<tr><th>Metric</th><th>n = {self.n}</th><th>95% interval</th></tr>"
        return f"<table>{head}{rows}</table>"


def score(
    predictions: Texts,
    references: Texts,
    *,
    metrics: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    label_set: str | Path = "ct-rate",
) -> Score:
    """Score reports against references.

    Args:
        predictions: the written reports: by id, or as a list in the order of the references.
        references: the reports that they are scored against, given in the same way.
        metrics: as ``rad3d eval metrics`` lists them; by default all that need no weights.
        resamples: bootstrap resamples of the cases behind every interval.
        seed: of the resamples.
        label_set: as for :func:`label`; its labels are what reports are compared by.

    Raises:
        BadRequest: lists of different lengths, no case, or no id in common.
    """
    from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
    from rad3d.metrics import scorecard

    if isinstance(predictions, Mapping) != isinstance(references, Mapping):
        raise BadRequest("Give predictions and references both by id, or both as lists.")
    if not isinstance(references, Mapping) and len(predictions) != len(references):
        raise BadRequest(f"{len(predictions)} predictions, but {len(references)} references.")
    truth, written = _by_id(references), _by_id(predictions)
    cases = tuple(Sample(i, t) for i, t in truth.items())
    samples = SampleSet("given", "references", cases, label_set=LabelSet.find(str(label_set)))
    reports = tuple(Prediction(i, t) for i, t in written.items())
    card = scorecard.score(
        samples, PredictionSet("predictions", "given", reports),
        metrics=metrics, resamples=resamples, seed=seed,
    )  # fmt: skip
    figures = {name: (e.value, e.low, e.high) for name, e in card.estimates.items()}
    return Score(figures, card.per_label, card.n, card.failures)


def _by_id(texts: Texts) -> dict[str, str]:
    if isinstance(texts, Mapping):
        return {str(id_): text for id_, text in texts.items()}
    return {str(i): text for i, text in enumerate(texts)}


@dataclass(frozen=True)
class Phantom:
    """A synthetic scan with everything that is true of it.

    Attributes:
        scan: the CT volume.
        report: the reference report.
        labels: the 18 labels -> 0 or 1.
        findings: what is present, with side, size and severity.
    """

    scan: Scan
    report: str
    labels: dict[str, int]
    findings: tuple[Finding, ...]

    def _repr_html_(self) -> str:
        return f"{self.scan._repr_html_()}<p>{escape(self.report)}</p>"


def phantom(seed: int, domain: str = "in", **size: int) -> Phantom:
    """Make a synthetic chest CT; the same seed gives the same scan and report everywhere.

    Args:
        seed: 0 or more.
        domain: ``"in"``, as the shipped models' training scans, or ``"out"``: contrast-enhanced,
            thicker slices, more noise, another style of report.
        size: ``matrix`` and ``slices`` in voxels; the drawn acquisition's own by default.
    """
    from rad3d.synthetic.phantom.cohort import make_case

    case = make_case(seed, domain, **size)
    labels = dict(zip(LABELS, case.truth.labels(), strict=True))
    return Phantom(load_scan(case.volume), case.report.text, labels, case.truth.findings)
