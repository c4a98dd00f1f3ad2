"""Fill the figures of README.md and MODEL_CARD.md, so that they are what the shipped files say.

    .venv/bin/python scripts/figures.py            # writes both pages
    .venv/bin/python scripts/figures.py --check    # exit 1 where one is out of step

What was measured comes from the runs that ship (assets/study and assets/study-pairs), how it was
trained from assets/models. Text outside the two marks is written by hand and kept.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rad3d.core.encoders import SHIPPED_ENCODER
from rad3d.core.evidence import Localisation
from rad3d.core.modes import MODES
from rad3d.core.settings import ROOT
from rad3d.evaluation.claims import claims
from rad3d.evaluation.leaderboard import StudyView, view_of
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.evaluation.storage import read_run
from rad3d.evaluation.summary_text import lowered
from rad3d.evaluation.system_names import CONTROLS, LOOKUP, PLUS, SHUFFLED
from rad3d.metrics.registry import metric_row
from rad3d.model.evidence import FILE as WHERE_FILE

MODELS = ROOT / "assets" / "models"
STUDY_DIR = ROOT / "assets" / "study"
PAIRS_DIR = ROOT / "assets" / "study-pairs"
BEGIN, END = "<!-- figures: made by scripts/figures.py -->", "<!-- end of figures -->"
IN, OUT, GRAMMAR = "phantom-in", "phantom-out", "grammar"
DOMAINS = {"in": "in domain", "out": "out of domain"}
SHOWN = ("v1", "v2", "v3", "words")
"""Modes in the README; the model card has all."""

Lines = Iterator[str]


def readme(run: EvaluationRun, models: Path = MODELS) -> Lines:
    """Some modes of the largest language model, and what they have to beat."""
    view = view_of(run)
    variants = [
        s for card in view.on(IN, controls=False) if (s := view.systems[card.name]).mode in SHOWN
    ]
    size, pairs = max((s.parameters, s.pairs) for s in variants)
    systems = {s.id: f"`{s.id}`" for s in variants if (s.parameters, s.pairs) == (size, pairs)}
    baselines = {s.id: s.name.lower() for s in CONTROLS.values() if s.id in (LOOKUP, GRAMMAR)}
    yield _origin(run)
    yield ""
    shown = ("f1_macro", "factuality", "side", "prior_f1")
    names = {"side": "laterality", **{m: lowered(metric_row(m).name) for m in shown if m != "side"}}
    columns = [m for m in shown if any(m in card.estimates for card in view.on(IN))]
    yield from _head(
        "system", *(f"{names[m]}, in" for m in columns), "macro F1, out", "shuffled, in"
    )
    for system, called in {**systems, **baselines}.items():
        if (system, IN) in view.cards:
            figures = [_figure(view, system, IN, m) for m in columns]
            out = _figure(view, system, OUT, "f1_macro")
            swapped = _figure(view, system + PLUS + SHUFFLED, IN, "f1_macro")
            yield _row(called, *figures, out, swapped)


def card(run: EvaluationRun, models: Path = MODELS) -> Lines:
    """How each model was trained, and all that the pages say of it."""
    yield from ("### Encoders", "", *_encoders(models), "")
    yield from ("### Language models", "", *_languages(models), "")
    yield from ("### Measured, on phantoms that no model was trained on", "", _origin(run), "")
    view = view_of(run)
    yield from (*_classifiers(run), "", *_variants(run, view, models), "")
    yield from ("### Where the evidence for a finding lies", "", *_where(models))
    yield from ("### The paper's claims, and what was seen here", "", *_claims(view), "")
    yield from ("### Few and many pairs, and the embeddings of two encoders", "", *_pairs())


def _encoders(models: Path) -> Lines:
    yield from _head("encoder", "training", "SHA-256 of the file of weights")
    for path in sorted((models / "encoders").glob("*/config.json")):
        config = _json(path)
        facts = "; ".join(f"{k.replace('_', ' ')} {_plain(v)}" for k, v in config["facts"].items())
        yield _row(f"`{path.parent.name}`", facts, f"`{config['sha256'][:12]}`")


def _languages(models: Path) -> Lines:
    yield from _head("language model", "parameters", "steps", "reading F1 (macro), n")
    for path in sorted((models / "llms").glob("*/training.json")):
        facts = _json(path)
        yield _row(
            f"`{path.parent.name}`",
            f"{facts['parameters']:,}",
            f"{facts['steps']}",
            f"{facts['reading_macro_f1']:.3f}, {facts['reading_n']}",
        )


def _classifiers(run: EvaluationRun) -> Lines:
    shown = {"auroc": "macro AUROC", "average_precision": "average precision", "f1": "macro F1"}
    yield from _head("classifier", "phantoms, n", *shown.values())
    for name, found in run.classifier.items():
        yield _row(f"`{found.name}`", f"{name}, {found.n}", *(str(found.macro[k]) for k in shown))


def _variants(run: EvaluationRun, view: StudyView, models: Path) -> Lines:
    shown = {"f1_macro": "macro F1", "factuality": "factuality", "side": "laterality"}
    yield from _head("variant", "phantoms, n", *shown.values(), "shuffled")
    measured = [s for s in view.systems.values() if s.is_variant and not s.group]
    for variant in (system.id for system in measured):
        for name in run.sample_sets:
            figures = (_figure(view, variant, name, metric) for metric in shown)
            swapped = _figure(view, variant + PLUS + SHUFFLED, name, "f1_macro")
            n = view.cards[variant, name].n
            yield _row(f"`{variant}`", f"{name}, {n}", *figures, swapped)
    trained = {_json(path)["id"] for path in (models / "variants").glob("*/*/variant.json")}
    for variant in sorted(trained - {system.id for system in measured}):
        yield _row(f"`{variant}`", "not measured", *[""] * (len(shown) + 1))


def _where(models: Path) -> Lines:
    """How often the strongest cell of each encoder is right, by label."""
    for path in sorted((models / "encoders").glob(f"*/{WHERE_FILE}")):
        stored = _json(path)
        sets = {name: row for name, row in stored["sets"].items() if name != "calibration"}
        seeds = "; ".join(
            f"{name}, {DOMAINS[row['domain']]}: seeds {row['first']:,} to "
            f"{row['first'] + row['n'] - 1:,}"
            for name, row in stored["sets"].items()
        )
        yield f"`{path.parent.name}`, {stored['made']}, on phantoms ({seeds})."
        yield ""
        columns = [f"{name}: n, pointing game, Dice" for name in sets]
        yield from _head("finding", "shown from", *columns, "offered")
        for label, found in stored["labels"].items():
            cells = [
                f"{row['n']}, {_interval(row['pointing'])}, {_interval(row['dice'])}"
                if (row := found.get(name))
                else "-"
                for name in sets
            ]
            shown = Localisation.of(found, stored["shown"])
            yield _row(label, f"{shown.threshold:.2f}", *cells, "yes" if shown.works else "no")
        yield ""


def _pairs() -> Lines:
    """What each mode made of so many pairs of each encoder, and the claims it speaks of."""
    run = read_run(PAIRS_DIR)
    view = view_of(run)
    yield from (_origin(run), "")
    shown = ("f1_macro", "factuality", "side", "prior_f1")
    names = ("macro F1", "factuality", "laterality", "agreement with the prior")
    yield from _head("encoder", "mode", "pairs", *(f"{n}, in" for n in names), "macro F1, out")
    rows = sorted(
        (system.encoder, list(MODES).index(system.mode), system.pairs, name)
        for name, system in view.systems.items()
        if system.is_variant and not system.group
    )
    for encoder, _, _, name in rows:
        system = view.systems[name]
        figures = [_figure(view, name, IN, metric) for metric in shown]
        out = _figure(view, name, OUT, "f1_macro")
        pairs = f"{system.pairs:,}" if MODES[system.mode].trains else "none"
        yield _row(f"`{encoder or SHIPPED_ENCODER}`", f"`{system.mode}`", pairs, *figures, out)
    for name in view.systems:
        if name.partition(" ")[0] == LOOKUP and (name, IN) in view.cards:
            encoder = name.partition("(")[2].rstrip(")") or SHIPPED_ENCODER
            figures = [_figure(view, name, IN, metric) for metric in shown]
            out = _figure(view, name, OUT, "f1_macro")
            yield _row(f"`{encoder}`", "template baseline", "none", *figures, out)
    yield from ("", *_claims(view))


def _interval(figure: list[float]) -> str:
    value, low, high = figure
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _claims(view: StudyView) -> Lines:
    yield from _head("claim", "verdict", "why")
    for claim in claims(view):
        yield _row(claim.text, claim.verdict, claim.words)


def _origin(run: EvaluationRun) -> str:
    sizes = {s.id: len(s.samples) for s in run.sample_sets.values()}
    return (
        f"Run of {run.created[:10]}, n = {sizes[IN]} in domain and {sizes[OUT]} out of domain, "
        "95% bootstrap intervals over cases."
    )


def _figure(view: StudyView, system: str, sample_set: str, metric: str) -> str:
    card = view.cards.get((system, sample_set))
    estimate = card.estimates.get(metric) if card else None
    return "-" if estimate is None or math.isnan(estimate.value) else str(estimate)


def _head(*names: str) -> Lines:
    yield _row(*names)
    yield _row(*["---"] * len(names))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(value: object) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value}"


def _json(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


PAGES: dict[str, Callable[[EvaluationRun, Path], Lines]] = {
    "README.md": readme,
    "MODEL_CARD.md": card,
}


def filled(page: str, text: str, run: EvaluationRun, models: Path = MODELS) -> str:
    """A page's text with its figures between the marks."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    if not tail:
        raise SystemExit(f"{page} lacks its marks {BEGIN} and {END}.")
    figures = "\n".join(PAGES[page](run, models))
    return f"{head}{BEGIN}\n\n{figures}\n\n{END}{tail}"


def main() -> int:
    """Write or check."""
    run, out_of_step = read_run(STUDY_DIR), 0
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        made = filled(page, text, run)
        if made == text:
            continue
        out_of_step += 1
        if "--check" in sys.argv[1:]:
            print(f"{page} is out of step with assets: run scripts/figures.py")
        else:
            (ROOT / page).write_text(made, encoding="utf-8")
    return int(bool(out_of_step) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
