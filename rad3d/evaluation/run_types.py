"""Types of an evaluation: the request, the progress events and the results."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rad3d.core.errors import BadRequest
from rad3d.core.types import GenerationOptions
from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.data.spec import SetSpec
from rad3d.metrics.classifier import ClassifierCard
from rad3d.metrics.compare import Difference
from rad3d.metrics.scorecard import MAX_RESAMPLES, CaseScore, Scorecard

Status = Literal["running", "finished", "failures", "cancelled", "interrupted"]
"""``"failures"``: finished, but reports or whole systems are missing. ``"interrupted"``: its
process ended before it did, which is known when the run is read."""

Stage = Literal["encode", "write", "score", "compare", "done"]
"""What a running evaluation is at."""

Key = tuple[str, str]
"""(system, sample set): whose scorecard or predictions."""


@dataclass(frozen=True)
class Bounds:
    """Limits of one run.

    Attributes:
        cases: of each set; 0 is any number.
        resamples: of the bootstrap behind an interval.
    """

    cases: int = 0
    resamples: int = MAX_RESAMPLES


@dataclass(frozen=True)
class EvaluationRequest:
    """The sample sets, systems, metrics and options of an evaluation.

    Attributes:
        sets: on which cases.
        variants: ids such as ``phantom-l/v3``; none for predictions files alone.
        controls: keys of :data:`rad3d.evaluation.system_names.CONTROLS`.
        metrics: keys of :data:`rad3d.metrics.registry.METRICS`; None is all that need no weights.
        options: how the reports are written.
        limit: at most so many cases of each set; 0 is all.
        draws: bootstrap resamples behind every interval.
        seed: of resampling, permutations and the shuffling of images.
        title: shown in the list of runs.
        owner: whose run it is, see :class:`rad3d.evaluation.evaluations.Evaluations`.
        features: stores or files of features, in place of scans; needed again to resume.
        bank: the training cases of the baselines, in place of the shipped phantoms; their
            features are among ``features``.
    """

    sets: tuple[SetSpec, ...]
    variants: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    metrics: tuple[str, ...] | None = None
    options: GenerationOptions = field(default_factory=GenerationOptions)
    limit: int = 0
    draws: int = 1000
    seed: int = 0
    title: str = ""
    owner: str = ""
    features: tuple[str, ...] = ()
    bank: SetSpec | None = None

    def __post_init__(self) -> None:
        if not self.sets:
            raise BadRequest("No sample set was chosen.", "Choose one.", code="no_sets")
        for option, value, least, most in (
            ("limit", self.limit, 0, 2**31),
            ("number of resamples", self.draws, 1, MAX_RESAMPLES),
            ("seed", self.seed, 0, 2**32 - 1),
        ):
            if not least <= value <= most:
                raise BadRequest(
                    f"The {option} must lie between {least} and {most}, not at {value}.",
                    code="bad_option",
                )
        for name, chosen in (("set", self.sets), ("variant", self.variants)):
            if len(set(chosen)) < len(chosen):
                raise BadRequest(f"A {name} was chosen twice.", "Keep one.", code="bad_option")

    def bounded(self, bounds: Bounds) -> EvaluationRequest:
        """Return the request within a visitor's limits; raises BadRequest for more."""
        if self.draws > bounds.resamples:
            raise BadRequest(
                f"{self.draws} resamples are more than the {bounds.resamples} allowed here.",
                "Choose fewer.",
                code="too_many",
            )
        if bounds.cases and self.limit > bounds.cases:
            raise BadRequest(
                f"{self.limit} cases are more than the {bounds.cases} of each set allowed here.",
                "Choose fewer.",
                code="too_many",
            )
        return replace(self, limit=self.limit or bounds.cases)


def written_with(options: GenerationOptions, seed: int) -> GenerationOptions:
    """Return generation options with the run's seed if they sample; others need no seed.

    So a greedy run with another seed finds its reports written already.
    """
    return replace(options, seed=seed if options.strategy == "sample" else 0)


@dataclass(frozen=True)
class Verdict:
    """The test of a variant against a baseline or ablation in one metric on one sample set.

    Attributes:
        variant, control: ids of the variant, and of the baseline or ablation.
        sample_set: id of the set.
        difference: variant minus control, p-values corrected for all variants and metrics of the
            set.
        beats: better, and more than chance after the correction.
        text: the verdict in one sentence.
    """

    variant: str
    control: str
    sample_set: str
    difference: Difference
    beats: bool
    text: str


@dataclass(frozen=True)
class RunSummary:
    """One row of the list of runs.

    Attributes:
        id: of the run; ``"study"`` is the one that ships.
        title: shown to people.
        created: date and time, UTC, ISO 8601.
        revision: of the code.
        status: see :data:`Status`.
        sets: their ids.
        systems: number of systems scored.
        shipped: True for the committed study.
    """

    id: str
    title: str
    created: str
    revision: str
    status: Status
    sets: tuple[str, ...]
    systems: int
    shipped: bool = False


@dataclass(frozen=True, eq=False)
class EvaluationRun:
    """One run with its request, cases, predictions and figures.

    Attributes:
        id, title, created, revision, status: as in :class:`RunSummary`.
        request: what was asked for.
        sample_sets: set id -> its cases.
        cards: (system, set) -> scorecard; the systems in the order they are shown.
        predictions: (system, set) -> what was written.
        costs: system -> ``parameters``, ``trainable`` and ``seconds``, as
            :func:`rad3d.evaluation.system_names.system_of` takes them; seconds are the median of
            one report, written in batches on the machine of the run.
        failed: system -> why it has no scorecard.
        verdicts: every variant against the baselines, and against its own ablations.
        classifier: set id -> figures of the classifier, where the set has labels and scans.
        facts: dates, versions, hashes, machine, seconds.
        directory: where its files lie.
    """

    id: str
    title: str
    created: str
    revision: str
    status: Status
    request: EvaluationRequest
    sample_sets: Mapping[str, SampleSet]
    cards: Mapping[Key, Scorecard]
    predictions: Mapping[Key, PredictionSet]
    costs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    classifier: Mapping[str, ClassifierCard] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    directory: Path | None = None

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the requested variants."""
        return self.request.variants

    @property
    def controls(self) -> tuple[str, ...]:
        """Ids of the requested ablations and baselines."""
        return self.request.controls

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about the scored texts, see :func:`read_predictions`."""
        noted = (note for card in self.cards.values() for note in card.settings.get("notes", ()))
        return tuple(dict.fromkeys(noted))


@dataclass(frozen=True)
class EvaluationEvent:
    """Progress of a running evaluation.

    Attributes:
        stage: see :data:`Stage`.
        done, total: steps of the whole run, for a progress bar.
        text: what is being done, one line.
        run_id: of the run, from the first event on.
        card: a scorecard that has just become ready.
        run: with the last event, the whole run (also one that was cancelled).
    """

    stage: Stage
    done: int
    total: int
    text: str
    run_id: str
    card: Scorecard | None = None
    run: EvaluationRun | None = None


Events = Generator[EvaluationEvent, None, None]
"""A running evaluation; to close it stops the run, which is saved with what it has."""


@dataclass(frozen=True)
class CaseView:
    """One case to read: the sample, the report, and the findings of both compared."""

    sample: Sample
    prediction: Prediction
    score: CaseScore
