"""List every language model and adaptation mode: what is ready here, and what others need.

A variant is LLM/mode, such as phantom-m/v3. One that is not ready is listed with the reason and,
where there is one, the command that makes it ready. --llms lists the published language models
and those in the models folder instead: sizes, memory by precision, licence, and the mode that the
paper's rule suggests.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from rad3d.commands import print_json, print_table, say
from rad3d.core.errors import Rad3dError
from rad3d.core.language_models import LANGUAGE_MODELS, LanguageModel
from rad3d.core.settings import Settings

EXAMPLE = """
rad3d variants
rad3d variants --llms
rad3d variants --json | jq -r '.[] | select(.ready) | .id'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d variants``."""
    parser.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    parser.add_argument("--llms", action="store_true", help="the language models that do not ship")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the status of every variant."""
    from dataclasses import asdict

    if args.llms:
        return _language_models(args.json)

    from rad3d.model.store import ModelStore

    statuses = ModelStore(Settings.from_env()).catalogue.statuses()
    if args.json:
        print_json([asdict(status) for status in statuses])
        return 0
    rows = [
        (
            status.id,
            "yes" if status.ready else "no",
            f"{status.parameters:,}" if status.parameters else "",
            f"{status.reason} Run: {status.command}" if status.command else status.reason,
        )
        for status in statuses
    ]
    print_table(rows, ("variant", "ready", "LLM parameters", "what it needs"))
    return 0


def _rows(models_dir: Path) -> list[LanguageModel]:
    """The published language models, and those in the models folder with the sizes they state."""
    from rad3d.model.llm.models_folder import folder_models

    rows = {row.id: row for row in LANGUAGE_MODELS.values() if row.config}
    for row in folder_models(models_dir):
        rows[row.id] = row if row.config else _measured(row, models_dir)
    return list(rows.values())


def _measured(row: LanguageModel, models_dir: Path) -> LanguageModel:
    """The row with the sizes of the configuration in its folder; as it is where that is broken."""
    from rad3d.model.llm.loading import directory_size, read_config

    folder = models_dir / row.source
    try:
        config = read_config(row.source, folder).get_text_config()
        size = directory_size(row.source, folder)
    except Rad3dError as error:
        say(str(error))
        return row
    stated = {
        "hidden_size": config.hidden_size,
        "max_position_embeddings": getattr(config, "max_position_embeddings", None) or 0,
    }
    return replace(row, parameters=size.total, linear_parameters=size.linear, config=stated)


SHOWN = ("float32", "bf16", "8bit", "4bit")


def _language_models(as_json: bool) -> int:
    """The language models and the modes, with what follows from it."""
    rows = _rows(Settings.from_env().models_dir)
    memory = {row.id: {p: row.memory_bytes(p) for p in SHOWN} for row in rows}
    if as_json:
        from dataclasses import asdict

        facts = [asdict(row) | {"memory_bytes": memory[row.id], "advice": row.paper_advice}
                 for row in rows]  # fmt: skip
        print_json(facts)
        return 0
    table = [
        (
            row.id,
            f"{row.parameters:,}",
            str(row.config.get("hidden_size") or row.config.get("n_embd", "")),
            f"{row.config.get('max_position_embeddings') or row.config.get('n_positions', 0):,}",
            *(f"{memory[row.id][p] / 1e9:.2f} GB" for p in SHOWN),
            row.paper_advice,
            row.licence + (" (gated)" if row.gated else ""),
            f"{row.source}@{row.revision[:7]}" if row.revision else row.source,
        )
        for row in rows
    ]
    head = ("LLM", "parameters", "width", "context", *SHOWN, "paper", "licence", "hub or folder")
    print_table(table, head)
    return 0
