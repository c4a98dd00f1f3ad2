"""Reports on a GPU that is lent for one call: ZeroGPU of Hugging Face Spaces.

The reports of an evaluation are written in several calls, each for as many batches as fit.

There the function that needs the GPU runs in a forked process: its arguments and what it yields
are pickled, its errors come back as their class name only, and its memory is its own. So the
function takes plain values, carries our errors as values, and forgets the scan when it ends. The
rest of the software sees one iterator of events, with or without a lender.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar, TypeVarTuple

from rad3d import __version__
from rad3d.core.edits import Edits
from rad3d.core.encoders import knows_only_phantoms
from rad3d.core.errors import Cancelled, Rad3dError
from rad3d.core.language_models import language_model
from rad3d.core.types import (
    DiagnosisEvent,
    DoneEvent,
    Event,
    GenerationOptions,
    Report,
    TextEvent,
    VariantEvent,
    Volume,
)
from rad3d.core.variant_ids import split_variant_id
from rad3d.model.engine import BATCH_ROWS, Engine, Generated
from rad3d.model.prefix_input import PrefixInput
from rad3d.model.report_facts import edit_provenance

MIN_SECONDS = 15
MAX_SECONDS = 40
"""Limits of one call, in seconds: anonymous visitors have two minutes of GPU a day."""

START_SECONDS = 8.0
"""Seconds to move the weights and encode the scan. Estimates, like the two below."""

SECONDS_PER_TOKEN = 0.03
SECONDS_PER_TOKEN_AND_BILLION = 0.008
"""Added for each billion parameters, whose weights are read once for each token."""

T = TypeVar("T")
Asked = TypeVarTuple("Asked")
Decorator = Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]


@dataclass(frozen=True)
class GpuLease:
    """The lender of the GPU.

    Attributes:
        gpu: a decorator with the keyword ``duration``, as ``spaces.GPU``.
        refusal: the exception that says why there is no GPU now, as ``gr.Error``.
    """

    gpu: Decorator
    refusal: type[Exception]


@dataclass(frozen=True)
class Refused:
    """A :class:`Rad3dError` as a value: ZeroGPU carries no exceptions of other packages."""

    problem: str
    remedy: str
    code: str


def seconds_wanted(
    scan: Volume | Sequence[PrefixInput],
    variants: str | Sequence[str],
    options: GenerationOptions,
    edited: Edits | None = None,
) -> int:
    """Return how many seconds of GPU to ask for: for reports on a scan, or for an evaluation's.

    A batch takes about as long as its longest report: weights are read once for all its rows.
    """
    batches = 1 if isinstance(scan, Volume) else math.ceil(len(scan) / BATCH_ROWS)
    names = [variants] if isinstance(variants, str) else variants
    seconds = START_SECONDS + batches * sum(_longest(name, options) for name in names)
    return round(min(MAX_SECONDS, max(MIN_SECONDS, seconds)))


def _longest(variant_id: str, options: GenerationOptions) -> float:
    """Return the seconds that the longest report takes."""
    parameters = language_model(split_variant_id(variant_id)[0].id).parameters
    rate = SECONDS_PER_TOKEN + SECONDS_PER_TOKEN_AND_BILLION * parameters / 1e9
    return options.max_new_tokens * rate * (1.5 if options.strategy == "beam" else 1.0)


def _lent(
    lender: GpuLease, work: Callable[[*Asked], Iterator[T]], what: str
) -> Callable[[*Asked], Generator[T, None, None]]:
    """Return the work on a lent GPU; it also raises ``no_gpu`` where the lender has none.

    Args:
        lender: lends the GPU.
        work: runs in the other process, for as long as :func:`seconds_wanted` of its arguments.
        what: it makes, in messages.
    """

    def carried(*asked: *Asked) -> Iterator[T | Refused]:
        try:
            yield from work(*asked)
        except Rad3dError as error:
            yield Refused(error.problem, error.remedy, error.code)

    lent = lender.gpu(duration=seconds_wanted)(carried)

    def fetched(*asked: *Asked) -> Generator[T, None, None]:
        events = lent(*asked)
        try:
            for event in events:
                if isinstance(event, Refused):
                    raise Rad3dError(event.problem, event.remedy, event.code)
                yield event
        except lender.refusal as error:
            raise Rad3dError(
                f"No GPU could be had for {what}: {getattr(error, 'message', error)}",
                "Sign in to Hugging Face for a larger quota, or try again later.",
                code="no_gpu",
            ) from error
        finally:
            if hasattr(events, "close"):
                events.close()

    return fetched


def lent_stream(engine: Engine, lender: GpuLease) -> Callable[..., Iterator[Event]]:
    """Return :meth:`Engine.stream` on a lent GPU; ``cancel`` is looked at between events.

    It also raises ``no_gpu`` where none was lent.
    """

    def write(
        volume: Volume, variant_id: str, options: GenerationOptions, edited: Edits | None
    ) -> Iterator[Event]:
        try:
            yield from engine.stream(volume, variant_id, options, None, edited)
        finally:
            engine.forget(volume.sha256)  # in the other process nobody else would

    lent = _lent(lender, write, "this report")

    def stream(
        volume: Volume,
        variant_id: str,
        options: GenerationOptions,
        cancel: threading.Event,
        edited: Edits | None = None,
    ) -> Iterator[Event]:
        engine.store.ready(variant_id)  # what has no weights here needs no GPU to say so
        diagnosis: DiagnosisEvent | None = None
        text: TextEvent | None = None
        finished = False
        with closing(lent(volume, variant_id, options, edited)) as events:
            for event in events:
                finished = isinstance(event, DoneEvent)
                if cancel.is_set() and not finished:
                    break
                if isinstance(event, DiagnosisEvent):
                    diagnosis = event
                elif isinstance(event, TextEvent):
                    text = event
                yield event
        if finished:
            return
        if diagnosis is None or text is None:
            raise Cancelled("The run was cancelled.", code="cancelled")
        yield DoneEvent(_cut_short(volume, variant_id, options, diagnosis, text))

    return stream


def lent_comparison(engine: Engine, lender: GpuLease) -> Callable[..., Iterator[VariantEvent]]:
    """Return :meth:`Engine.compare` on a lent GPU; ``cancel`` is looked at between events.

    Reports that were not finished by then are none. It also raises ``no_gpu`` where none was lent.
    """

    def write(
        volume: Volume, variants: Sequence[str], options: GenerationOptions, edited: Edits | None
    ) -> Iterator[VariantEvent]:
        try:
            yield from engine.compare(volume, variants, options, None, edited)
        finally:
            engine.forget(volume.sha256)

    lent = _lent(lender, write, "these reports")

    def compare(
        volume: Volume,
        variants: Sequence[str],
        options: GenerationOptions,
        cancel: threading.Event,
        edited: Edits | None = None,
    ) -> Iterator[VariantEvent]:
        with closing(lent(volume, variants, options, edited)) as events:
            for event in events:
                if cancel.is_set():
                    raise Cancelled("The run was cancelled.", code="cancelled")
                yield event

    return compare


def lent_batches(engine: Engine, lender: GpuLease) -> Callable[..., Iterator[list[Generated]]]:
    """Return :meth:`Engine.generate_batches` on a lent GPU, several batches in each call.

    ``cancel`` is looked at between batches. It also raises ``no_gpu`` where none was lent.
    """

    def write(
        conditions: Sequence[PrefixInput], variant_id: str, options: GenerationOptions
    ) -> Iterator[list[Generated]]:
        return engine.generate_batches(conditions, variant_id, options)

    lent = _lent(lender, write, "these reports")

    def batches(
        conditions: Sequence[PrefixInput],
        variant_id: str,
        options: GenerationOptions,
        cancel: threading.Event,
    ) -> Iterator[list[Generated]]:
        fitting = int((MAX_SECONDS - START_SECONDS) / _longest(variant_id, options))
        rows = BATCH_ROWS * max(1, fitting)
        for first in range(0, len(conditions), rows):
            with closing(lent(list(conditions[first : first + rows]), variant_id, options)) as part:
                for batch in part:
                    if cancel.is_set():
                        raise Cancelled("The run was cancelled.", code="cancelled")
                    yield batch

    return batches


def _cut_short(
    volume: Volume,
    variant_id: str,
    options: GenerationOptions,
    event: DiagnosisEvent,
    text: TextEvent,
) -> Report:
    """Return the report as far as it was written, without what only the other process knew."""
    return Report(
        text=text.text,
        variant_id=variant_id,
        diagnosis=event.diagnosis,
        options=options,
        finish_reason="cancelled",
        n_tokens=text.n_tokens,
        timings_s={},
        notes=event.notes,
        novelty=event.novelty,
        provenance={
            "volume_sha256": volume.sha256,
            "encoder": event.diagnosis.source,
            "variant": variant_id,
            "phantoms_only": knows_only_phantoms(event.diagnosis.source),
            "rad3d": __version__,
            **edit_provenance(event.diagnosis),
        },
    )
