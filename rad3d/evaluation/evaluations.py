"""The evaluation service of the front ends: sample sets, kept runs and cases to read.

A run takes sample sets, variants, ablations and baselines. It writes the reports that do not exist
yet, scores and compares them, and keeps everything below the runs folder. The shipped study is a
run like any other and is always in the list.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from rad3d.core.errors import BadRequest, Rad3dError, UnknownName
from rad3d.core.lookup import lookup
from rad3d.core.settings import ROOT, Settings
from rad3d.core.types import Volume
from rad3d.data.predictions import one_line
from rad3d.data.sample_sets import (
    LAYOUTS,
    SAMPLE_SETS,
    Layout,
    load_set,
    load_sets,
)
from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.evaluation.access import Rights
from rad3d.evaluation.exports import Export, export
from rad3d.evaluation.feature_source import FeatureSource
from rad3d.evaluation.listening import Listening, stored_listening
from rad3d.evaluation.measured import VariantResult, measured_in
from rad3d.evaluation.metric_choice import MetricGroup, metric_groups
from rad3d.evaluation.request_check import check_cases, check_names, check_rights
from rad3d.evaluation.revision import code_revision, machine
from rad3d.evaluation.run_types import (
    CaseView,
    EvaluationRequest,
    EvaluationRun,
    Events,
)
from rad3d.evaluation.runner import EvaluationWork
from rad3d.evaluation.runs import SHIPPED, RunRepository
from rad3d.evaluation.storage import read_run
from rad3d.evaluation.systems import Systems
from rad3d.evaluation.text_process import apart
from rad3d.evaluation.titles import title_of
from rad3d.metrics.cases import Places
from rad3d.metrics.scorecard import score_case
from rad3d.model.catalogue import VariantStatus
from rad3d.model.engine import Engine
from rad3d.service.gallery import case_volume
from rad3d.service.service import Service
from rad3d.service.sessions import Session

LoadedSets = tuple[dict[str, SampleSet], tuple[PredictionSet, ...]]
"""Sets by id, and predictions that were read from files."""

STUDY_DIR = ROOT / "assets" / "study"


class Evaluations:
    """One per process, beside the :class:`Service`; one evaluation runs at a time.

    Args:
        service: gives models and sessions.
        settings: places and limits.
        study_dir: the run that ships, and the shipped features.
        trusted: the person may read any path, as on the command line.
        visitors_dir: where the runs of visitors are kept, which must not outlive this process.

    Attributes:
        rights: what the person may read and take.
        kept: the runs there are.
        store: the models.
        feature_source: what encoders see in the cases.
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
        self._service, self._places = service, Places.of(settings)
        self._home = settings.runs_dir / "evaluations"
        self.rights = Rights(settings, trusted)
        self.kept = RunRepository(self.rights, study_dir, self._home, visitors_dir)
        self.store = service.engine.store
        self.feature_source = FeatureSource(
            self.store, study_dir / "features", self._home / "features", self._volume
        )
        self._busy = threading.Lock()

    # What there is to choose

    def layouts(self) -> tuple[Layout, ...]:
        """List the layouts that can be read by path; empty where nobody may name one."""
        return tuple(LAYOUTS.values()) if self.rights.files_are_named else ()

    def metric_groups(self) -> tuple[MetricGroup, ...]:
        """Return the groups of metrics, with what the missing ones need."""
        return metric_groups(self._places)

    def variants(self) -> tuple[VariantStatus, ...]:
        """Return every language model in every mode: ready, or with reason and command."""
        return self.store.catalogue.statuses()

    # Runs

    def measured(self, variant: str) -> tuple[VariantResult, ...]:
        """Return the results of a variant with its present weights on each set, if any.

        Of the study that ships where that wrote with these weights, else of the newest run that
        did. Runs that belong to one visitor count for nobody.
        """
        if not self.store.catalogue.status(variant).ready:
            return ()
        try:
            config = self.store.catalogue.config(variant)
            runs = self.kept.study_first()
            return measured_in(runs, config, lambda e: self.feature_source.identity(e).sha256)
        except Rad3dError:  # the encoder is damaged, which is said where it is needed
            return ()

    def listening(self, variant: str) -> dict[str, Listening]:
        """Return whether a variant's reports follow a flipped label, by label; ``""`` is all.

        On the first set on which that was tried with its present weights; empty where it was not.
        """
        for result in self.measured(variant):
            with suppress(Rad3dError):  # the list of runs says that one is damaged
                directory = self.kept.directory(result.run)
                if found := stored_listening(directory, variant, result.sample_set):
                    return found
        return {}

    def start(
        self,
        request: EvaluationRequest,
        cancel: threading.Event,
        uploads: Collection[str] = (),
    ) -> Events:
        """Begin a run; an invalid request is refused before the first event.

        Files are read before this returns, and are not needed again, also to resume.

        Args:
            request: what to evaluate.
            cancel: stops it, see :meth:`rad3d.evaluation.runner.EvaluationWork.events`.
            uploads: paths of the request that this visitor may read wherever they are.

        Raises:
            UnknownName, MissingWeights, BadRequest: the request cannot be met.
        """
        request = check_rights(request, self.rights, uploads)
        check_names(request, self.store, self._places)
        created = datetime.now(UTC)
        run_id = f"{created:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        loaded = self._load(request, cancel)
        return self._events(
            request, loaded, run_id, created.isoformat(timespec="milliseconds"), cancel
        )

    def resume(self, run_id: str, cancel: threading.Event, owner: str = "") -> Events:
        """Continue a stopped run; existing reports are not written again."""
        if run_id in SHIPPED:
            raise BadRequest("The runs that ship are finished.", code="shipped")
        run = read_run(self.kept.directory(run_id, owner))
        check_names(run.request, self.store, self._places)
        files = tuple(p for p in run.predictions.values() if "file" in p.facts)
        wanted = sum(spec.source == "predictions" for spec in run.request.sets)
        loaded = (
            (dict(run.sample_sets), files)
            if len(files) == wanted
            else self._load(run.request, cancel)
        )
        return self._events(run.request, loaded, run.id, run.created, cancel)

    def _load(self, request: EvaluationRequest, cancel: threading.Event) -> LoadedSets:
        """Read the sample sets; uploaded files are read in a process that can be ended."""
        if not self._is_foreign(request):
            return load_sets(request.sets, request.limit)
        reading = apart(load_sets, request.sets, request.limit, cancel=cancel)
        while True:
            try:
                next(reading)
            except StopIteration as done:
                return cast(LoadedSets, done.value)

    def _is_foreign(self, request: EvaluationRequest) -> bool:
        """Return whether texts that neither ship nor are written here are read on a server."""
        return not self.rights.is_shell and any(s.source not in SAMPLE_SETS for s in request.sets)

    def _events(
        self,
        request: EvaluationRequest,
        loaded: LoadedSets,
        run_id: str,
        created: str,
        cancel: threading.Event,
    ) -> Events:
        sets, files = loaded
        check_cases(request, sets, files)
        run = EvaluationRun(
            id=run_id,
            title=one_line(request.title) or title_of(request),
            created=created,
            revision=code_revision(),
            status="running",
            request=request,
            sample_sets=sets,
            cards={},
            predictions={},
            facts=machine(),
            directory=self.kept.place_of(run_id, request.owner),
        )
        given = [Path(path).expanduser() for path in request.features]
        systems = Systems(
            Engine(self.store),
            self.feature_source.with_given(given) if given else self.feature_source,
            self._home / "reports",
            request,
            tuple(sets.values()),
            self._service.write_batches,
            load_set(request.bank)[0] if request.bank else None,
        )
        work = EvaluationWork(
            systems, self.store, run, files, self._places, foreign=self._is_foreign(request)
        )
        return self._alone(work, cancel)

    def _alone(self, work: EvaluationWork, cancel: threading.Event) -> Events:
        """Run one evaluation at a time: a second one would slow down both and the reports."""
        if not self._busy.acquire(blocking=False):
            raise BadRequest(
                "Another evaluation is running.", "Wait for it or cancel it.", code="busy"
            )
        try:
            with self._service.running.evaluation(cancel):
                yield from work.events(cancel)
        finally:
            self._busy.release()

    # Cases

    def case(self, run: EvaluationRun, system: str, sample_set: str, case_id: str) -> CaseView:
        """Return one case to read, its findings compared anew; raises UnknownName."""
        key = (system, sample_set)
        if key not in run.cards:
            raise UnknownName("system on a set", f"{system} on {sample_set}", _names(run))
        samples = {s.id: s for s in run.sample_sets[sample_set].samples}
        sample = lookup("case", samples, case_id)
        predictions = {p.id: p for p in run.predictions[key].predictions}
        prediction = predictions.get(case_id) or Prediction(case_id, "", "no prediction")
        fresh = score_case(sample, prediction, run.sample_sets[sample_set].label_set)
        known = next((c for c in run.cards[key].cases if c.id == case_id), fresh)
        return CaseView(sample, prediction, replace(known, findings=fresh.findings))

    def open_scan(self, session: Session, sample: Sample) -> Volume:
        """Open the scan of a case in a session; raises as :meth:`Service.open`."""
        return self._service.open(session, lambda: self._volume(sample))

    def export(self, run: EvaluationRun, kind: str) -> Export:
        """Export a run in one of the formats of :data:`EXPORTS`."""
        return export(run, kind)

    def _volume(self, sample: Sample) -> Volume:
        return case_volume(sample, self._service.read)


def _names(run: EvaluationRun) -> list[str]:
    return [f"{system} on {name}" for system, name in run.cards]
