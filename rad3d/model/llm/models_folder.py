"""Language models that lie in the models folder: their names, their terms and where they are from.

Each is a folder, or a link to one, in ``llms``. One that has the id of a listed model stands for
it; any other has the id ``local--NAME``. Variants name the folder relative to the models folder, so
both may be moved together.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rad3d.core.errors import BadRequest
from rad3d.core.language_models import LANGUAGE_MODELS, LLMS_DIR, LOCAL, LanguageModel
from rad3d.core.licences import NOTICE_FILE, notice, terms_among
from rad3d.core.origin import folder_licence
from rad3d.model.llm.folders import parameter_count


def folder_models(models_dir: Path) -> Iterator[LanguageModel]:
    """The language models in the models folder that do not ship, as :func:`placed` gives them."""
    for config in sorted((models_dir / LLMS_DIR).glob("*/config.json")):
        name = config.parent.name
        row = LANGUAGE_MODELS.get(name) or LANGUAGE_MODELS.get(LOCAL + name)
        if row is None and re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            row = LANGUAGE_MODELS[LOCAL + name]
        if row is not None and not row.shipped:
            yield placed(row, models_dir)


def placed(row: LanguageModel, models_dir: Path) -> LanguageModel:
    """The row with its folder in the models folder as source, where it has one."""
    source = f"{LLMS_DIR}/{row.id.removeprefix(LOCAL)}"
    folder = models_dir / source
    if row.shipped or Path(row.source).is_absolute() or not (folder / "config.json").is_file():
        return row
    return replace(
        row,
        source=source,
        revision=None,
        gated=False,
        licence=row.licence or folder_licence(folder),
        parameters=row.parameters or sum(map(parameter_count, folder.glob("*.safetensors"))),
    )


def adopted(row: LanguageModel, models_dir: Path) -> LanguageModel:
    """:func:`placed`, and a folder that lies elsewhere is linked to under its name.

    Raises:
        BadRequest: another model has that name, or no link can be made.
    """
    if not Path(row.source).is_absolute() or not (Path(row.source) / "config.json").is_file():
        return placed(row, models_dir)
    link = models_dir / LLMS_DIR / row.id.removeprefix(LOCAL)
    if link.resolve() != Path(row.source).resolve():
        if link.exists():
            raise BadRequest(
                f"Another language model has the name of the folder {row.name}: {link}.",
                "Rename the folder, or link to it under another name: "
                f"ln -s {row.source} {link.parent}/NAME",
                code="model_exists",
            )
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)  # it led to where the folder was before
            link.symlink_to(row.source, target_is_directory=True)
        except OSError as error:
            raise BadRequest(
                f"No link to {row.source} can be made: {error.strerror}.",
                f"Move the folder to {link}.",
                code="no_link",
            ) from error
    return placed(replace(row, source=f"{LLMS_DIR}/{link.name}"), models_dir)


def hand_on_terms(folder: Path, directory: Path, licence: str) -> None:
    """Put a language model's files of terms, and the notice that its licence asks for, beside what
    was made from it.
    """
    for name in terms_among(path.name for path in folder.iterdir() if path.is_file()):
        shutil.copyfile(folder / name, directory / name)
    if text := notice(licence):
        (directory / NOTICE_FILE).write_text(f"{text}\n", encoding="utf-8")
