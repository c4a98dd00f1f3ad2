"""Reports on a GPU that is lent for one call: ZeroGPU of Hugging Face Spaces.

There the function that needs the GPU runs in a forked process: its arguments and what it yields
are pickled, its errors come back as their class name only, and its memory is its own. So the
function takes plain values, carries our errors as values, and forgets the scan when it ends. The
rest of the software sees one iterator of events, with or without a lender.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rad3d import __version__
from rad3d.errors import Cancelled, Rad3dError
from rad3d.model.engine import Engine
from rad3d.registry import language_model, split_variant_id
from rad3d.types import (
    DiagnosisEvent,
    DoneEvent,
    Event,
    GenerationOptions,
    Report,
    TextEvent,
    Volume,
)

LEAST_SECONDS = 15
MOST_SECONDS = 40
"""What is asked for: anonymous visitors have two minutes of GPU a day."""

START_SECONDS = 8.0
"""Moving the weights, encoding the scan. An estimate, like the two below: not measured there."""

SECONDS_PER_TOKEN = 0.03
SECONDS_PER_TOKEN_AND_BILLION = 0.008
"""More for each billion parameters, whose weights are read once for each token."""

Decorator = Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]


@dataclass(frozen=True)
class Lender:
    """Who lends the GPU.

    Attributes:
        gpu: a decorator with the keyword ``duration``, as ``spaces.GPU``.
        refusal: the exception that says why there is no GPU now, as ``gr.Error``.
    """

    gpu: Decorator
    refusal: type[Exception]


@dataclass(frozen=True)
class Refused:
    """A :class:`Rad3dError` as a value, since ZeroGPU carries no exceptions of ours."""

    problem: str
    remedy: str
    code: str


def seconds_wanted(volume: Volume, variant_id: str, options: GenerationOptions) -> int:
    """How long the GPU is asked for: by the size of the model and the longest report."""
    parameters = language_model(split_variant_id(variant_id)[0].id).parameters
    rate = SECONDS_PER_TOKEN + SECONDS_PER_TOKEN_AND_BILLION * parameters / 1e9
    if options.strategy == "beam":
        rate *= 1.5
    wanted = START_SECONDS + options.max_new_tokens * rate
    return round(min(MOST_SECONDS, max(LEAST_SECONDS, wanted)))


class LentStream:
    """:meth:`Engine.stream` on a lent GPU.

    Args:
        engine: writes the reports.
        lender: of the GPU.
    """

    def __init__(self, engine: Engine, lender: Lender) -> None:
        self._refusal = lender.refusal

        def write(
            volume: Volume, variant_id: str, options: GenerationOptions
        ) -> Iterator[Event | Refused]:
            try:
                yield from engine.stream(volume, variant_id, options)
            except Rad3dError as error:
                yield Refused(error.problem, error.remedy, error.code)
            finally:
                engine.forget(volume.sha256)  # in the other process nobody else would

        self._write = lender.gpu(duration=seconds_wanted)(write)

    def __call__(
        self,
        volume: Volume,
        variant_id: str,
        options: GenerationOptions,
        cancel: threading.Event,
    ) -> Iterator[Event]:
        """As :meth:`Engine.stream`; ``cancel`` is looked at between events.

        Raises:
            Cancelled: ``cancel`` was set before the first token.
            Rad3dError: any other condition a person can do something about; ``no_gpu`` where none
                was lent.
        """
        split_variant_id(variant_id)  # before a GPU is asked for
        shown: tuple[DiagnosisEvent, TextEvent] | None = None
        diagnosis: DiagnosisEvent | None = None
        finished = False
        events = self._write(volume, variant_id, options)
        try:
            for event in events:
                if isinstance(event, Refused):
                    raise Rad3dError(event.problem, event.remedy, event.code)
                if cancel.is_set() and not isinstance(event, DoneEvent):
                    break
                if isinstance(event, DiagnosisEvent):
                    diagnosis = event
                elif isinstance(event, TextEvent) and diagnosis:
                    shown = (diagnosis, event)
                finished = isinstance(event, DoneEvent)
                yield event
        except self._refusal as error:
            raise Rad3dError(
                f"No GPU could be had for this report: {getattr(error, 'message', error)}",
                "Sign in to Hugging Face for a larger quota, or try again later.",
                code="no_gpu",
            ) from error
        finally:
            events.close()
        if finished:
            return
        if shown is None:
            raise Cancelled("The run was cancelled.", code="cancelled")
        yield DoneEvent(_cut_short(volume, variant_id, options, *shown))


def _cut_short(
    volume: Volume,
    variant_id: str,
    options: GenerationOptions,
    seen: DiagnosisEvent,
    text: TextEvent,
) -> Report:
    """The report as far as it had come; what only the other process knew is missing."""
    return Report(
        text=text.text,
        variant_id=variant_id,
        diagnosis=seen.diagnosis,
        options=options,
        finish_reason="cancelled",
        n_tokens=text.n_tokens,
        timings_s={},
        notes=seen.notes,
        novelty=seen.novelty,
        provenance={
            "volume_sha256": volume.sha256,
            "encoder": seen.diagnosis.source,
            "variant": variant_id,
            "rad3d": __version__,
        },
    )
