"""Fill MODEL_CARD.md's figures from assets/models, so that they are what the files say.

    .venv/bin/python scripts/model_card.py            # writes MODEL_CARD.md
    .venv/bin/python scripts/model_card.py --check    # exit 1 where it is out of step

Text outside the two marks is written by hand and kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CARD = ROOT / "MODEL_CARD.md"
MODELS = ROOT / "assets" / "models"
BEGIN, END = "<!-- figures: made by scripts/model_card.py -->", "<!-- end of figures -->"
SCORES = {"macro_f1": "macro F1", "micro_f1": "micro F1", "side": "side", "shuffled_f1": "shuffled"}


def figures(models: Path = MODELS) -> str:
    """The tables, from whatever is in a models folder."""
    return "\n".join([*_encoders(models), "", *_languages(models), "", *_variants(models)])


def _encoders(models: Path) -> Iterator[str]:
    yield "### Encoders"
    yield ""
    yield from _row("encoder", "measured while training", "SHA-256 of the weights")
    yield from _row("---", "---", "---")
    for path in sorted((models / "encoders").glob("*/config.json")):
        config = _json(path)
        facts = "; ".join(f"{k.replace('_', ' ')} {v}" for k, v in config.get("facts", {}).items())
        yield from _row(f"`{path.parent.name}`", facts or "not recorded", _short(config))


def _languages(models: Path) -> Iterator[str]:
    yield "### Language models"
    yield ""
    yield from _row("language model", "parameters", "steps", "reading F1 (macro), n")
    yield from _row("---", "---", "---", "---")
    for path in sorted((models / "llms").glob("*/training.json")):
        facts = _json(path)
        reading = facts.get("reading_macro_f1")
        read = f"{reading:.3f}, {facts.get('reading_n', '?')}" if reading is not None else ""
        parameters = f"{facts['parameters']:,}" if "parameters" in facts else ""
        yield from _row(
            f"`{path.parent.name}`", parameters, str(facts.get("steps", "")), read or "not recorded"
        )


def _variants(models: Path) -> Iterator[str]:
    yield "### Variants, on phantoms that none of them was trained on"
    yield ""
    yield from _row("variant", "phantoms, n", *SCORES.values())
    yield from _row(*["---"] * (2 + len(SCORES)))
    for path in sorted((models / "variants").glob("*/*/variant.json")):
        config = _json(path)
        scores = config.get("scores") or {}
        if not scores:
            yield from _row(f"`{config.get('id')}`", "not measured", *[""] * len(SCORES))
        for split, found in scores.items():
            cells = [_estimate(found.get(key)) for key in SCORES]
            yield from _row(f"`{config.get('id')}`", f"{split}, {found.get('n', '?')}", *cells)


def _row(*cells: str) -> Iterator[str]:
    yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _estimate(found: Any) -> str:
    if not isinstance(found, Mapping):
        return ""
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _short(config: Mapping[str, Any]) -> str:
    return f"`{str(config['sha256'])[:12]}`" if config.get("sha256") else ""


def _json(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def filled(card: str, models: Path = MODELS) -> str:
    """The card with the figures of a models folder between its marks."""
    head, _, rest = card.partition(BEGIN)
    _, _, tail = rest.partition(END)
    if not tail:
        raise SystemExit(f"MODEL_CARD.md lacks its marks {BEGIN} and {END}.")
    return f"{head}{BEGIN}\n\n{figures(models)}\n\n{END}{tail}"


def main() -> int:
    """Write or check."""
    card = CARD.read_text(encoding="utf-8")
    made = filled(card)
    if "--check" in sys.argv[1:]:
        if made != card:
            print("MODEL_CARD.md is out of step with assets/models: run scripts/model_card.py")
        return int(made != card)
    CARD.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
