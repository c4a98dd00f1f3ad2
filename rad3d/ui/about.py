"""The about tab: what the models are, and what was measured on them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from typing import TYPE_CHECKING

from rad3d.core.registry import ENCODERS, split_variant_id
from rad3d.evaluation.figures.style import count
from rad3d.ui.choices import Look, advised, measured
from rad3d.ui.components import markup

if TYPE_CHECKING:
    from rad3d.model.catalogue import VariantStatus
    from rad3d.service.service import Service

_METHOD = """
<section class="r3-card r3-prose"><h2>How a report is made</h2>
<ol class="r3-steps"><li>The scan is checked, resampled to the encoder’s grid and clipped to its
HU range.</li><li>A frozen encoder turns it into one embedding.</li><li>A classifier
on that embedding gives 18 logits, shown as probabilities.</li><li>A projector turns the
embedding, and in two of the modes the logits, into a prefix of 10 soft tokens.</li><li>The language
model continues the prefix with a report.</li></ol>
<p>The method is RAD3D-Prefix (arXiv 2606.17213). The models that ship with this app are small and
have seen only synthetic phantoms; on a real scan they show how the software works, not what the
patient has.</p></section>
"""


def about_tab(service: Service, look: Look) -> None:
    """Lay the tab out.

    Args:
        service: knows the variants.
        look: what was measured of each.
    """
    statuses = service.variants()
    markup(_METHOD)
    markup(_encoders(service.encoders_here()) + _variants(statuses, look) + _others(statuses))


def _encoders(here: Collection[str]) -> str:
    """Every encoder, with the steps to the weights of those that are missing here."""
    rows = "".join(
        _row(row.name, row.trained_on, row.licence, "ready" if row.id in here else row.get)
        for row in ENCODERS.values()
    )
    return _table("Encoders", ("Encoder", "Trained on", "Licence", "Weights here"), rows)


def _variants(statuses: Sequence[VariantStatus], look: Look) -> str:
    """What writes here, and what was measured of it."""
    rows = ""
    for status in (s for s in statuses if s.ready):
        llm, mode = split_variant_id(status.id)
        rows += _row(
            llm.name,
            mode.name,
            count(status.parameters or llm.parameters),
            llm.licence,
            measured(look(status.id)) or "not measured",
        )
    head = (
        "Language model",
        "Mode",
        "Parameters",
        "Licence",
        "Macro F1 of its reports [95% interval]",
    )
    return _table("Language models and modes", head, rows)


def _others(statuses: Sequence[VariantStatus]) -> str:
    """One row for each language model of which modes are missing here."""
    missing: dict[str, list[VariantStatus]] = {}
    for status in (s for s in statuses if not s.ready):
        missing.setdefault(split_variant_id(status.id)[0].id, []).append(status)
    rows = ""
    for group in missing.values():
        llm, _ = split_variant_id(group[0].id)
        modes = ", ".join(split_variant_id(s.id)[1].name.split(" (")[0] for s in group)
        parameters = group[0].parameters or llm.parameters
        size = count(parameters) if parameters else ""
        rows += _row(llm.name, size, llm.licence, modes, advised(group).command)
    if not rows:
        return ""
    head = ("Language model", "Parameters", "Licence", "Modes", "The mode that the paper advises")
    return _table("Not here yet, and the command that makes it", head, rows)


def _row(name: str, *cells: str) -> str:
    tail = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f"<tr><th scope='row'>{escape(name)}</th>{tail}</tr>"


def _table(title: str, head: tuple[str, ...], rows: str) -> str:
    cells = "".join(f"<th scope='col'>{escape(name)}</th>" for name in head)
    return (
        f'<section class="r3-card r3-models"><h2>{escape(title)}</h2><div class="r3-scroll">'
        f"<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )
