"""Evaluations for the faces: what can be evaluated, runs that are kept, and every case to read.

A run takes sample sets, variants and controls, writes what has not been written before, scores,
compares, and keeps everything below the runs folder. The study that ships is a run like any other
and is always in the list.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
import shutil
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rad3d.errors import BadRequest, BadVolume, MissingWeights, Rad3dError, UnknownName
from rad3d.eval.cases import Places
from rad3d.eval.registry import metric_status
from rad3d.eval.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.eval.scorecard import score_case
from rad3d.model.engine import Engine
from rad3d.model.store import VariantStatus
from rad3d.phantom.cohort import make_case
from rad3d.registry import SHIPPED_ENCODER, lookup
from rad3d.service.evaluation_controls import CONTROLS, ControlRow
from rad3d.service.evaluation_exports import EXPORTS, Export, export
from rad3d.service.evaluation_features import FeatureSource
from rad3d.service.evaluation_measured import Measured, measured_in
from rad3d.service.evaluation_metrics import MetricGroup, metric_groups
from rad3d.service.evaluation_revision import code_revision, machine
from rad3d.service.evaluation_sets import (
    LAYOUTS,
    PHANTOM,
    SAMPLE_SETS,
    Layout,
    PhantomSplit,
    load_set,
    load_sets,
    title_of,
)
from rad3d.service.evaluation_store import copy_run, is_run_id, read_run, read_summary
from rad3d.service.evaluation_systems import Systems
from rad3d.service.evaluation_types import (
    Bounds,
    CaseView,
    EvaluationEvent,
    EvaluationRequest,
    EvaluationRun,
    Key,
    RunSummary,
    SetSpec,
    Status,
    Verdict,
)
from rad3d.service.evaluation_verdicts import compare_runs, compare_systems
from rad3d.service.evaluation_work import EvaluationWork
from rad3d.service.service import Service
from rad3d.settings import ROOT, Settings
from rad3d.types import Volume

__all__ = [
    "CONTROLS",
    "EXPORTS",
    "LAYOUTS",
    "SAMPLE_SETS",
    "STUDY",
    "CaseView",
    "ControlRow",
    "EvaluationEvent",
    "EvaluationRequest",
    "EvaluationRun",
    "Evaluations",
    "Export",
    "Key",
    "Layout",
    "Measured",
    "RunSummary",
    "SetCard",
    "SetSpec",
    "Status",
    "Verdict",
    "compare_runs",
    "compare_systems",
    "copy_run",
    "read_run",
]

_LOG = logging.getLogger(__name__)

STUDY_DIR = ROOT / "assets" / "study"
STUDY = "study"
"""Id of the run that ships."""


@dataclass(frozen=True)
class SetCard:
    """A shipped sample set in a picker.

    Attributes:
        id, name, description, domain, n, licence: of the set.
        to_encode: scans that would have to be encoded first; about a second each.
    """

    id: str
    name: str
    description: str
    domain: str
    n: int
    licence: str
    to_encode: int


class Evaluations:
    """One per process, beside the :class:`Service`; one evaluation runs at a time.

    On a host that others reach, a run belongs to its ``owner``, a text that only its session knows,
    and files are read only below ``settings.data_dir`` or where the face vouches for them
    (``uploads``: what this visitor has just sent). Where the app listens on this machine alone, and
    for the command line, there is one person who may see everything. What visitors run goes with
    their session and with the server: it is kept apart from what the operator has run.

    Args:
        service: gives models and sessions.
        settings: places and limits.
        study_dir: the run that ships, and the shipped features.
        trusted: the person may read any path, as on the command line.
        visitors_dir: where the runs of visitors are kept, which must not outlive this process.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        *,
        study_dir: Path = STUDY_DIR,
        trusted: bool = False,
        visitors_dir: Path | None = None,
    ) -> None:
        self._service, self._settings, self._study = service, settings, study_dir
        self._is_shell, self._is_local = trusted, _is_loopback(settings.host)
        self.store = service.engine.store
        self._places = Places.of(settings)
        self._root = settings.runs_dir / "evaluations"
        self._visitors = visitors_dir or self._root
        self.feature_source = FeatureSource(
            self.store, study_dir / "features", self._root / "features", self._volume
        )
        self._busy = threading.Lock()

    @property
    def _trusted(self) -> bool:
        """Behind a reverse proxy the app listens on this machine alone and serves others."""
        return self._is_shell or (self._is_local and not self._service.reached_by_others)

    # What there is to choose

    def sets(self) -> tuple[SetCard, ...]:
        """The shipped sample sets."""
        return tuple(
            SetCard(
                row.id, row.name, row.description, row.domain, row.n, "Apache-2.0",
                self._to_encode(row),
            )
            for row in SAMPLE_SETS.values()
        )  # fmt: skip

    def _to_encode(self, row: PhantomSplit) -> int:
        try:
            return self.feature_source.missing(row.id, row.scans(), SHIPPED_ENCODER)
        except Rad3dError:  # no encoder, or a damaged file: said when a run is started
            return row.n

    def layouts(self) -> tuple[Layout, ...]:
        """What can be read by path; none where a visitor may not."""
        return tuple(LAYOUTS.values()) if self._trusted or self._settings.data_dir else ()

    def controls(self) -> tuple[ControlRow, ...]:
        """The controls."""
        return tuple(CONTROLS.values())

    def metric_groups(self) -> tuple[MetricGroup, ...]:
        """The groups of metrics, and what those that are missing need."""
        return metric_groups(self._places)

    @property
    def bounds(self) -> Bounds:
        """What one run may take: anything where there is one person, less for a visitor."""
        if self._trusted:
            return Bounds()
        return Bounds(self._settings.visitor_cases, self._settings.visitor_draws)

    def variants(self) -> tuple[VariantStatus, ...]:
        """Every language model in every mode: ready, or with the reason and the command."""
        return self.store.statuses()

    def describe(self, spec: SetSpec, uploads: Collection[str] = ()) -> SampleSet:
        """Read a set: its cases, and what was dropped; raises where it cannot be used."""
        self._check_place(spec, uploads)
        return load_set(spec)[0]

    # Runs

    def runs(self, owner: str = "") -> tuple[RunSummary, ...]:
        """Newest first; the study that ships comes last. Damaged runs are left out."""
        found = []
        for directory in (d for root in self._roots for d in root.glob("*")):
            if not is_run_id(directory.name):
                continue
            try:
                summary, whose = read_summary(directory)
            except (BadRequest, KeyError):
                _LOG.warning("An evaluation run cannot be read")
                continue
            if self._may_see(whose, owner):
                found.append(summary)
        found.sort(key=lambda run: run.created, reverse=True)
        if (self._study / "run.json").is_file():
            found.append(replace(read_summary(self._study)[0], id=STUDY, shipped=True))
        return tuple(found)

    def load(self, run_id: str, owner: str = "") -> EvaluationRun:
        """A run with everything that came of it; raises BadRequest or UnknownName."""
        run = read_run(self._directory(run_id, owner))
        return replace(run, id=run_id)

    def measured(self, variant: str) -> tuple[Measured, ...]:
        """What a variant reached with the weights it has here, on each sample set; else nothing.

        Of the study that ships where that wrote with these weights, else of the newest run that
        did. Runs that belong to one visitor count for nobody.
        """
        if not self.store.status(variant).ready:
            return ()
        try:
            config = self.store.config(variant)
            return measured_in(
                self._study_first(), config, lambda name: self.feature_source.identity(name).sha256
            )
        except Rad3dError:  # the encoder is damaged, which is said where it is needed
            return ()

    def _study_first(self) -> Iterator[tuple[str, Path]]:
        yield STUDY, self._study
        for row in self.runs():
            if not row.shipped:
                yield row.id, self._directory(row.id, "")

    def delete(self, run_id: str, owner: str = "") -> None:
        """Remove a run; reports are kept for others. The study that ships stays."""
        if run_id == STUDY:
            raise BadRequest("The study that ships cannot be deleted.", code="shipped")
        shutil.rmtree(self._directory(run_id, owner))

    @property
    def _roots(self) -> tuple[Path, ...]:
        """The folders of runs that are there."""
        return tuple(root for root in {self._root, self._visitors} if root.is_dir())

    def forget(self, owner: str) -> None:
        """Delete the runs of a session that has ended; does nothing where one person sees all."""
        if self._trusted or not owner:
            return
        for row in self.runs(owner):
            if not row.shipped:
                directory = self._directory(row.id, owner)
                if secrets.compare_digest(read_summary(directory)[1], owner):
                    shutil.rmtree(directory, ignore_errors=True)  # it may still be written

    def start(
        self,
        request: EvaluationRequest,
        cancel: threading.Event,
        uploads: Collection[str] = (),
    ) -> Iterator[EvaluationEvent]:
        """Begin a run; everything that can be refused is refused before the first event.

        Files are read before this returns, and are not needed again, also to resume.

        Args:
            request: what to evaluate.
            cancel: stops it, see :meth:`rad3d.service.evaluation_work.EvaluationWork.events`.
            uploads: paths of the request that this visitor may read wherever they are.

        Raises:
            UnknownName, MissingWeights, BadRequest: the request cannot be met.
        """
        bank = (request.bank,) if request.bank else ()
        features = (SetSpec("features", path) for path in request.features)
        for spec in (*request.sets, *bank, *features):
            self._check_place(spec, uploads)
        request = request.bounded(self.bounds)
        created = datetime.now(UTC)
        run_id = f"{created:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        self._check(request)
        loaded = load_sets(request.sets, request.limit)
        return self._events(
            request, loaded, run_id, created.isoformat(timespec="milliseconds"), cancel
        )

    def resume(
        self, run_id: str, cancel: threading.Event, owner: str = ""
    ) -> Iterator[EvaluationEvent]:
        """Go on with a run that was stopped; what has been written is not written again."""
        if run_id == STUDY:
            raise BadRequest("The study that ships is finished.", code="shipped")
        run = read_run(self._directory(run_id, owner))
        self._check(run.request)
        files = tuple(p for p in run.predictions.values() if "file" in p.facts)
        wanted = sum(spec.source == "predictions" for spec in run.request.sets)
        loaded = (
            (dict(run.sample_sets), files)
            if len(files) == wanted
            else load_sets(run.request.sets, run.request.limit)
        )
        return self._events(run.request, loaded, run.id, run.created, cancel)

    def _events(
        self,
        request: EvaluationRequest,
        loaded: tuple[dict[str, SampleSet], tuple[PredictionSet, ...]],
        run_id: str,
        created: str,
        cancel: threading.Event,
    ) -> Iterator[EvaluationEvent]:
        sets, files = loaded
        if request.variants and not any(s.scan for each in sets.values() for s in each.samples):
            raise BadRequest(
                "The chosen cases have no scans, so no variant can write about them.",
                "Choose a set with scans, or no variant.",
                code="no_scans",
            )
        if not (request.variants or files or _standing_alone(request)):
            raise BadRequest("Nothing was chosen to evaluate.", "Choose a variant.", code="nothing")
        run = EvaluationRun(
            id=run_id,
            title=request.title or title_of(request),
            created=created,
            revision=code_revision(),
            status="running",
            request=request,
            sample_sets=sets,
            cards={},
            predictions={},
            facts=machine(),
            directory=(self._root if self._trusted else self._visitors) / run_id,
        )
        given = [Path(path).expanduser() for path in request.features]
        systems = Systems(
            Engine(self.store),
            self.feature_source.with_given(given) if given else self.feature_source,
            self._root / "reports",
            request,
            tuple(sets.values()),
            self._service.write_batches,
            load_set(request.bank)[0] if request.bank else None,
        )
        return self._alone(EvaluationWork(systems, self.store, run, files, self._places), cancel)

    def _check(self, request: EvaluationRequest) -> None:
        """Names, weights and metrics, before anything is read or computed."""
        for control in request.controls:
            lookup("control", CONTROLS, control)
        if not request.variants and any(CONTROLS[c].per_variant for c in request.controls):
            raise BadRequest(
                "A control of a variant was chosen without a variant.",
                "Choose one.",
                code="nothing",
            )
        for variant in request.variants:
            status = self.store.status(variant)
            if not status.ready:
                raise MissingWeights(
                    status.reason, f"Run: {status.command}", code="missing_weights"
                )
        for metric in request.metrics or ():
            state = metric_status(metric, self._places)
            if not state.ready:
                raise BadRequest(
                    f"{metric} cannot run here: {state.reason}",
                    f"Run: {state.command}" if state.command else "Leave it out.",
                    code="metric_not_ready",
                )

    def _alone(self, work: EvaluationWork, cancel: threading.Event) -> Iterator[EvaluationEvent]:
        """One run at a time: a second one would only slow down both, and the reports of people."""
        if not self._busy.acquire(blocking=False):
            raise BadRequest(
                "Another evaluation is running.", "Wait for it or cancel it.", code="busy"
            )
        try:
            yield from work.events(cancel)
        finally:
            self._busy.release()

    # Cases

    def case(self, run: EvaluationRun, system: str, sample_set: str, case_id: str) -> CaseView:
        """One case to read, its findings compared anew; raises UnknownName."""
        key = (system, sample_set)
        if key not in run.cards:
            raise UnknownName("system on a set", f"{system} on {sample_set}", _names(run))
        samples = {s.id: s for s in run.sample_sets[sample_set].samples}
        sample = lookup("case", samples, case_id)
        found = {p.id: p for p in run.predictions[key].predictions}
        prediction = found.get(case_id) or Prediction(case_id, "", "no prediction")
        fresh = score_case(sample, prediction)
        known = next((c for c in run.cards[key].cases if c.id == case_id), fresh)
        return CaseView(sample, prediction, replace(known, findings=fresh.findings))

    def open_scan(self, session: str, sample: Sample) -> Volume:
        """Make the scan of a case the session's open one.

        Raises:
            BadVolume: there is none, or it cannot be used.
            BadRequest: the session has ended.
        """
        return self._service.open_volume(session, self._volume(sample))

    def export(self, run: EvaluationRun, kind: str) -> Export:
        """A run as a file of one of :data:`EXPORTS`."""
        return export(run, kind)

    def _volume(self, sample: Sample) -> Volume:
        if sample.scan.startswith(PHANTOM):
            domain, seed = sample.scan.removeprefix(PHANTOM).split(":")
            return make_case(int(seed), domain).volume
        if not sample.scan:
            raise BadVolume("There is no scan for this case.", code="not_found")
        return self._service.read(Path(sample.scan), sample.id)

    # Who may

    def _directory(self, run_id: str, owner: str) -> Path:
        if run_id == STUDY and (self._study / "run.json").is_file():
            return self._study
        if is_run_id(run_id):
            for directory in (d for root in self._roots if (d := root / run_id).is_dir()):
                _, whose = read_summary(directory)
                if self._may_see(whose, owner):
                    return directory
        raise UnknownName("run", run_id, [run.id for run in self.runs(owner)])

    def _may_see(self, whose: str, owner: str) -> bool:
        return self._trusted or not whose or secrets.compare_digest(whose, owner)

    def _check_place(self, spec: SetSpec, uploads: Collection[str] = ()) -> None:
        """Refuse a path that this person may not read."""
        root = self._settings.data_dir and Path(self._settings.data_dir).expanduser().resolve()
        for text in (spec.path, spec.references):
            if self._trusted or not text or text in SAMPLE_SETS or text in uploads:
                continue
            if not root or not Path(text).expanduser().resolve().is_relative_to(root):
                raise BadRequest(
                    "Files of this machine cannot be evaluated from here.",
                    "Upload a predictions file, or ask the operator to set RAD3D_DATA_DIR.",
                    code="forbidden_path",
                )


def _standing_alone(request: EvaluationRequest) -> bool:
    return any(not CONTROLS[control].per_variant for control in request.controls)


def _names(run: EvaluationRun) -> list[str]:
    return [f"{system} on {name}" for system, name in run.cards]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
