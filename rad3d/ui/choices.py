"""The language models and adaptation modes on offer, and the guidance on each choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rad3d.core.encoders import ENCODERS, SHIPPED_ENCODER, EncoderRow
from rad3d.core.language_models import FREEZE_FROM_PARAMETERS, LANGUAGE_MODELS
from rad3d.core.modes import MODES
from rad3d.core.variant_ids import split_variant_id, variant_id
from rad3d.evaluation.figures.style import count
from rad3d.metrics.bootstrap import span
from rad3d.ui.html import report_html

if TYPE_CHECKING:
    from rad3d.evaluation.measured import VariantResult
    from rad3d.model.catalogue import VariantStatus

Choices = list[tuple[str, str]]
_DOMAINS = {"in": "in domain", "out": "out of domain"}

Look = Callable[[str], "Sequence[VariantResult]"]
"""Variant -> its results, as :meth:`rad3d.evaluation.evaluations.Evaluations.measured`."""


def llm_choices(statuses: Sequence[VariantStatus]) -> Choices:
    """Return (name, id) of every language model with a ready mode, and of those in folders."""
    ready = {split_variant_id(s.id)[0].id for s in statuses if s.ready}
    shown = {}
    for status in statuses:
        row = split_variant_id(status.id)[0]
        if row.id in ready or status.in_folder:
            parts = [row.name, count(status.parameters) if status.parameters else ""]
            parts.append("" if row.id in ready else "untrained")
            shown[row.id] = " · ".join(filter(None, parts))
    return [(name, llm) for llm, name in shown.items()]


def mode_choices(statuses: Sequence[VariantStatus], llm: str | None) -> Choices:
    """Return (name, id) of the modes that are ready for a language model."""
    ready = {s.id for s in statuses if s.ready}
    return [
        (mode.name, mode.id) for mode in MODES.values() if llm and variant_id(llm, mode.id) in ready
    ]


def first_choice(
    statuses: Sequence[VariantStatus], default_variant: str
) -> tuple[str | None, str | None]:
    """Return the (language model, mode) that is chosen when the app opens."""
    ready = [s.id for s in statuses if s.ready]
    if not ready:
        return None, None
    llm, mode = split_variant_id(default_variant if default_variant in ready else ready[-1])
    return llm.id, mode.id


def encoder_of(statuses: Sequence[VariantStatus], llm: str | None, mode: str | None) -> EncoderRow:
    """Return the encoder of a variant; the shipped one where no variant is chosen."""
    chosen = variant_id(llm, mode) if llm and mode else ""
    encoder = next((s.encoder for s in statuses if s.id == chosen), "")
    return ENCODERS.get(encoder, ENCODERS[SHIPPED_ENCODER])


def guidance(
    statuses: Sequence[VariantStatus], llm: str | None, mode: str | None, look: Look
) -> str:
    """Return the paper's rule for this size and what was measured of this variant, as HTML."""
    untrained = [s for s in statuses if llm and not mode and s.id.startswith(f"{llm}/")]
    if untrained and llm:
        command = advised(untrained).command
        return report_html("untrained", llm=LANGUAGE_MODELS[llm].name, command=command)
    if not llm or not mode:
        return report_html("guidance", mode=None)
    variant = variant_id(llm, mode)
    status = next((s for s in statuses if s.id == variant), None)
    parameters = status.parameters if status else 0
    small = (parameters or LANGUAGE_MODELS[llm].parameters) < FREEZE_FROM_PARAMETERS
    return report_html(
        "guidance",
        mode=MODES[mode],
        small=small,
        follows=MODES[mode].trains_llm == small,
        figures=measured(look(variant)),
        command=f"rad3d eval run --variants {variant}",
    )


def measured(results: Sequence[VariantResult]) -> str:
    """Return macro F1 on each sample set with 95% interval, n and date; empty for no results."""
    figures = {}
    for result in results:
        if f1 := result.figure("f1_macro"):
            name = _DOMAINS.get(result.domain, result.sample_set)
            figures[f"{name} {f1.value:.2f} {span(f1.low, f1.high, '.2f')}, n = {f1.n}"] = (
                result.date
            )
    return f"{'; '.join(figures)} ({', '.join(dict.fromkeys(figures.values()))})" if figures else ""


def not_ready(statuses: Sequence[VariantStatus]) -> str:
    """Return a table of what cannot run here, why, and the command that helps; or an empty text.

    Modes that differ in nothing but their name share a row, with the command of the one that the
    paper advises.
    """
    rows: dict[tuple[str, str, str], list[VariantStatus]] = {}
    for status in statuses:
        if not status.ready:
            llm, mode = split_variant_id(status.id)
            reason = status.reason.replace(f" in mode {mode.name}", "")
            command = status.command.replace(f"--mode {mode.id}", "")
            rows.setdefault((llm.name, reason, command), []).append(status)
    return report_html(
        "not_ready",
        rows=[
            (
                name,
                ", ".join(split_variant_id(status.id)[1].name for status in group),
                reason,
                advised(group).command,
            )
            for (name, reason, _), group in rows.items()
        ],
    )


def advised(group: Sequence[VariantStatus]) -> VariantStatus:
    """Return the status of V-3 for large models, of V-1 for small ones, or the first there is."""
    llm, _ = split_variant_id(group[0].id)
    advice = variant_id(llm.id, "v3" if llm.paper_advice == "freeze" else "v1")
    return next((status for status in group if status.id == advice), group[0])
