"""The about tab: what the models are, and what was measured on them."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from rad3d.registry import ENCODERS, split_variant_id
from rad3d.service.figure_parts import count
from rad3d.ui.choices import Look, measured
from rad3d.ui.components import markup

if TYPE_CHECKING:
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
    markup(_METHOD)
    markup(_encoders() + _variants(service, look))


def _encoders() -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(row.name)}</th><td>{escape(row.trained_on)}</td></tr>"
        for row in ENCODERS.values()
    )
    return _table("Encoders", ("Encoder", "Trained on"), rows)


def _variants(service: Service, look: Look) -> str:
    rows = ""
    for status in service.variants():
        llm, mode = split_variant_id(status.id)
        state = "ready" if status.ready else f"{status.reason} {status.command}".strip()
        parameters = status.parameters or llm.parameters
        figures = (measured(look(status.id)) or "not measured") if status.ready else ""
        rows += (
            f"<tr class='{'ready' if status.ready else 'missing'}'>"
            f"<th scope='row'>{escape(llm.name)}</th><td>{escape(mode.name)}</td>"
            f"<td>{count(parameters) if parameters else ''}</td><td>{escape(llm.licence)}</td>"
            f"<td>{escape(figures)}</td><td>{escape(state)}</td></tr>"
        )
    head = (
        "Language model",
        "Mode",
        "Parameters",
        "Licence",
        "Macro F1 of its reports",
        "State",
    )
    return _table("Language models and modes", head, rows)


def _table(title: str, head: tuple[str, ...], rows: str) -> str:
    cells = "".join(f"<th scope='col'>{escape(name)}</th>" for name in head)
    return (
        f'<section class="r3-card r3-models"><h2>{escape(title)}</h2><div class="r3-scroll">'
        f"<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )
