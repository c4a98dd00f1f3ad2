"""Fill the figures of README.md and MODEL_CARD.md, so that they are what the shipped files say.

    .venv/bin/python scripts/figures.py            # writes both pages
    .venv/bin/python scripts/figures.py --check    # exit 1 where one is out of step

What was measured comes from the study (assets/study), how it was trained from assets/models. Text
outside the two marks is written by hand and kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rad3d.core.settings import ROOT
from rad3d.evaluation.service import STUDY_DIR, EvaluationRun, read_run
from rad3d.evaluation.system_names import LOOKUP, PLUS, SHUFFLED
from rad3d.metrics.bootstrap import Estimate

MODELS = ROOT / "assets" / "models"
BEGIN, END = "<!-- figures: made by scripts/figures.py -->", "<!-- end of figures -->"
IN, OUT = "phantom-in", "phantom-out"

Lines = Iterator[str]


def readme(run: EvaluationRun, models: Path = MODELS) -> Lines:
    """The modes of the largest language model, and what they have to beat."""
    largest = run.variants[-1].partition("/")[0]
    systems = {v: f"`{v}`" for v in run.variants if v.startswith(f"{largest}/")}
    yield _origin(run)
    yield ""
    yield from _head("system", "macro F1, in", "macro F1, out", "laterality, in", "shuffled, in")
    for system, shown in {**systems, LOOKUP: "template baseline"}.items():
        shuffled = system + PLUS + SHUFFLED
        yield _row(
            shown,
            _figure(run, system, IN, "f1_macro"),
            _figure(run, system, OUT, "f1_macro"),
            _figure(run, system, IN, "side"),
            _figure(run, shuffled, IN, "f1_macro") if (shuffled, IN) in run.cards else "-",
        )


def card(run: EvaluationRun, models: Path = MODELS) -> Lines:
    """How each model was trained, and all that the pages say of it."""
    yield from ("### Encoders", "", *_encoders(models), "")
    yield from ("### Language models", "", *_languages(models), "")
    yield from ("### Measured, on phantoms that no model was trained on", "", _origin(run), "")
    yield from (*_classifiers(run), "", *_variants(run, models))


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


def _variants(run: EvaluationRun, models: Path) -> Lines:
    shown = {"f1_macro": "macro F1", "f1_micro": "micro F1", "side": "laterality"}
    yield from _head("variant", "phantoms, n", *shown.values(), "shuffled")
    for variant in run.variants:
        for name in run.sample_sets:
            figures = (_figure(run, variant, name, metric) for metric in shown)
            swapped = _figure(run, variant + PLUS + SHUFFLED, name, "f1_macro")
            n = run.cards[variant, name].n
            yield _row(f"`{variant}`", f"{name}, {n}", *figures, swapped)
    trained = {_json(path)["id"] for path in (models / "variants").glob("*/*/variant.json")}
    for variant in sorted(trained - set(run.variants)):
        yield _row(f"`{variant}`", "not measured", *[""] * (len(shown) + 1))


def _origin(run: EvaluationRun) -> str:
    sizes = {s.id: len(s.samples) for s in run.sample_sets.values()}
    return (
        f"Run of {run.created[:10]}, n = {sizes[IN]} in domain and {sizes[OUT]} out of domain, "
        "95% bootstrap intervals over cases."
    )


def _figure(run: EvaluationRun, system: str, sample_set: str, metric: str) -> str:
    estimate: Estimate = run.cards[system, sample_set].estimates[metric]
    return str(estimate)


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
