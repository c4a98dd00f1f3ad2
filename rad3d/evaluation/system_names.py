"""Names and costs of the systems of an evaluation.

A system's id is ``"phantom-l/v3"`` for a variant, ``"phantom-l/v3+image-zero"`` for a variant under
an ablation, and a plain word for a baseline (``"lookup"``) or a file of predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rad3d.core.encoders import SHIPPED_ENCODER
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.modes import MODES


@dataclass(frozen=True)
class ControlRow:
    """One ablation or baseline.

    Attributes:
        id: on the command line and in the names of systems.
        name: a few words for a narrow column.
        summary: one sentence.
        per_variant: True where it changes what a variant is given, False for one on its own.
        needs_training: True where it needs the features of the training scans.
        writes: True where the variant writes its reports anew.
        of_prior: True where only variants that read the prior can be asked.
    """

    id: str
    name: str
    summary: str
    per_variant: bool = False
    needs_training: bool = False
    writes: bool = False
    of_prior: bool = False


CONTROLS: dict[str, ControlRow] = {
    row.id: row
    for row in (
        ControlRow("logits-only", "logits only",
                   "The image embedding is the training mean; the logits stay.",
                   per_variant=True, needs_training=True, writes=True, of_prior=True),
        ControlRow("logits-swapped", "prior of another case",
                   "The image embedding stays; the prior is another case's.",
                   per_variant=True, writes=True, of_prior=True),
        ControlRow("logit-flipped", "one logit flipped",
                   "In each case one label of the prior is moved across its threshold, the labels "
                   "in turn.", per_variant=True, writes=True, of_prior=True),
        ControlRow("image-zero", "image zeroed",
                   "The scan is replaced by air; embedding and logits are those of air.",
                   per_variant=True, writes=True),
        ControlRow("image-shuffled", "images shuffled",
                   "Every case gets the report of another case.", per_variant=True),
        ControlRow("lookup", "Template baseline",
                   "The classifier's labels, written as stored sentences of training reports.",
                   needs_training=True),
        ControlRow("grammar", "Grammar from the prior",
                   "The prior's findings, written without an error by the grammar of the training "
                   "reports."),
        ControlRow("majority", "Majority report",
                   "The report of the most frequent combination of labels.", needs_training=True),
        ControlRow("nearest", "Nearest report",
                   "The report of the training scan with the nearest embedding.",
                   needs_training=True),
    )
}  # fmt: skip
"""Ablation or baseline -> its row."""

LOOKUP = "lookup"
"""The template baseline: the classifier's labels as stored sentences. A variant has to beat it."""

SHUFFLED = "image-shuffled"
"""The ablation that shows how much of a figure needs no image."""

PLUS = "+"
"""Separates a variant from its ablation in a system's id."""

OF_RUN = " @ "
"""Between a system and the title of the run it comes from, where two runs are compared."""


@dataclass(frozen=True)
class System:
    """One row of a leaderboard.

    Attributes:
        id: its name in the run.
        shown: for people, such as ``"Phantom L · V-3"``.
        llm: name of the language model, empty where there is none.
        mode: key of :data:`rad3d.core.modes.MODES`, empty where there is none.
        control: key of :data:`CONTROLS`, empty for what is being compared.
        parameters, trainable: of the language model, and of what training changed; 0 if unknown.
        seconds: for one report; None where it was not measured.
        pairs: that it learned from; 0 if unknown.
        encoder: whose embeddings it reads; empty for the shipped one.
        group: the system of which it is one of several trainings from different seeds; empty for
            one that stands for itself.
    """

    id: str
    shown: str
    llm: str = ""
    mode: str = ""
    control: str = ""
    parameters: int = 0
    trainable: int = 0
    seconds: float | None = None
    pairs: int = 0
    encoder: str = ""
    group: str = ""

    @property
    def is_variant(self) -> bool:
        """True for a language model in a mode, without an ablation."""
        return bool(self.mode) and not self.control

    @property
    def of_variant(self) -> bool:
        """True for a variant under an ablation."""
        return bool(self.mode and self.control)

    @property
    def short(self) -> str:
        """The name for narrow columns: ``"Phantom L · V-3" -> "L V-3"``."""
        return self.shown.replace("Phantom ", "").replace(" · ", " ")


def system_of(name: str, costs: Mapping[str, Mapping[str, Any]]) -> System:
    """The system of an id.

    Args:
        name: the id; a part after :data:`OF_RUN` is shown and not read.
        costs: id -> ``parameters``, ``trainable``, ``seconds``, ``pairs`` and ``encoder``, each
            where it is known.
    """
    cost = costs.get(name, {})
    encoder = cost.get("encoder") or ""
    known: dict[str, Any] = {
        "parameters": int(cost.get("parameters") or 0),
        "trainable": int(cost.get("trainable") or 0),
        "seconds": cost.get("seconds"),
        "pairs": int(cost.get("pairs") or 0),
        "encoder": "" if encoder == SHIPPED_ENCODER else encoder,
    }
    own, at, run = name.partition(OF_RUN)
    variant, _, control = own.partition(PLUS)
    llm, _, tagged = variant.rpartition("/")
    mode, _, tag = tagged.partition(".")
    if mode not in MODES or not llm:
        kind = own.partition(" (")[0]
        alone = CONTROLS.get(kind)
        shown = own.replace(kind, alone.name, 1) if alone else own
        return System(name, shown + at + run, control=kind if alone else "", **known)
    axes = _axes(tag)
    known |= {key: value for key, value in axes.items() if key in known}
    shown = ", ".join(
        filter(
            None,
            (
                f"{model_name(llm)} · {mode_name(mode)}",
                f"{axes['pairs']:,} pairs" if "pairs" in axes and MODES[mode].trains else "",
                str(axes.get("encoder", "")),
                f"seed {axes['seed']}" if "seed" in axes else "",
                CONTROLS[control].name if control in CONTROLS else control,
            ),
        )
    )
    seed = f".s{axes['seed']}" if "seed" in axes else ""
    group = name.replace(seed, "", 1) if seed else ""
    return System(name, shown + at + run, model_name(llm), mode, control, group=group, **known)


def _axes(tag: str) -> dict[str, Any]:
    """Return what a variant's tag says: ``"p400.s1" -> {"pairs": 400, "seed": 1}``."""
    axes: dict[str, Any] = {}
    for part in filter(None, tag.split(".")):
        number = part[1:]
        if part[0] in "ps" and number.isdecimal():
            axes["pairs" if part[0] == "p" else "seed"] = int(number)
        else:
            axes["encoder"] = part
    return axes


def expected_seconds(
    costs: Mapping[str, Mapping[str, Any]],
    variants: Sequence[str],
    controls: Sequence[str],
    cases: int,
) -> float:
    """Estimate a run's duration from the seconds of earlier reports; 0 where none are known.

    Args:
        costs: of an earlier run; a variant without ``seconds`` is taken to be like the slowest.
        variants, controls: ids; controls are ablations and baselines.
        cases: of all sample sets together.
    """
    known = {name: float(cost["seconds"]) for name, cost in costs.items() if cost.get("seconds")}
    if not known:
        return 0.0
    slowest = max(known.values())
    return cases * sum(
        known.get(variant, slowest) * (1 + sum(row.writes for row in ablations(variant, controls)))
        for variant in variants
    )


def ablations(variant: str, controls: Sequence[str]) -> list[ControlRow]:
    """Return those of some controls that are made of a variant and say something of it."""
    mode = MODES.get(variant.rpartition("/")[2].partition(".")[0])
    reads = mode is None or mode.reads_prior
    rows = (CONTROLS[control] for control in controls)
    return [row for row in rows if row.per_variant and (reads or not row.of_prior)]


def model_name(llm: str) -> str:
    """Return a language model's name; one that is not in the table keeps its id."""
    return LANGUAGE_MODELS[llm].name if llm in LANGUAGE_MODELS else llm


def mode_name(mode: str) -> str:
    """Return the first word of a mode's name: ``"v3" -> "V-3"``."""
    return MODES[mode].name.split()[0].rstrip(",")
