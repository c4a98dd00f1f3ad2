"""Puts an encoder that lies on this machine where BERTScore looks for its weights."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from rad3d.core.errors import BadRequest
from rad3d.core.file_kind import SAFETENSORS, what_is
from rad3d.core.files import FullDiskTold, file_sha256
from rad3d.core.licences import terms_among
from rad3d.core.origin import ORIGIN_FILE, folder_licence, package_files
from rad3d.metrics.cases import Places
from rad3d.metrics.models import bertscore

KEPT = (".json", ".txt", ".model", ".safetensors", ".md")
WEIGHTS = "model.safetensors"


def install_bertscore(text: str, places: Places, replace: bool = False) -> Path:
    """Copy an encoder into the folder of BERTScore, and try it there.

    Args:
        text: the path of a folder that transformers can load, or the name of an installed Python
            package that holds one; its code is not run.
        places: where metrics look for their weights.
        replace: overwrite an encoder that is there.

    Returns:
        The folder, with an ``origin.json``.

    Raises:
        MissingWeights: there is neither such a folder nor such a package.
        BadRequest: it holds no encoder as safetensors, or one is there already.
        DiskFull: there is no room.
    """
    target = places.weights("bertscore")
    if target.exists() and not replace:
        raise BadRequest(
            f"BERTScore has an encoder already, in {target}.",
            "Add --replace to put another in its place.",
            code="model_exists",
        )
    folder, package = _found(text)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FullDiskTold(), tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as place:
        new = Path(place) / "bertscore"
        new.mkdir()
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        terms = terms_among(path.name for path in files)
        for path in files:
            if path.suffix in KEPT or path.name in terms:
                shutil.copyfile(path, new / path.name)
        same = bertscore(["A small effusion."] * 2, ["A small effusion.", "Normal heart."], new)
        if not (abs(same[0] - 1) < 1e-3 and same[1] < same[0]):
            raise BadRequest(
                f"The model in {text} does not tell texts apart.",
                "Choose an encoder, such as a BERT.",
                code="unusable_model",
            )
        origin = {
            "name": package.partition(" ")[0] or folder.name,
            "package": package,
            "sha256": file_sha256(new / WEIGHTS),
            "licence": folder_licence(new),
            "terms": terms,
        }
        (new / ORIGIN_FILE).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        new.rename(target)
    return target


def _found(text: str) -> tuple[Path, str]:
    """The folder of an encoder, and the package that it is from."""
    package = ""
    folders = [Path(text).expanduser()]
    if not folders[0].is_dir():
        package, files = package_files(text)
        folders = [path.parent for path in files if path.name == "config.json"]
    for folder in folders:
        if (folder / "config.json").is_file() and (folder / WEIGHTS).is_file():
            if (kind := what_is(folder / WEIGHTS)) is not SAFETENSORS:
                raise BadRequest(f"{WEIGHTS} in {text} is {kind.what}.", kind.remedy)
            return folder, package
    raise BadRequest(
        f"There is no encoder in {text}.",
        f"Give a folder with config.json, tokenizer and {WEIGHTS}.",
        code="missing_weights",
    )
