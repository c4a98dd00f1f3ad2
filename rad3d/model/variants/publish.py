"""Variants on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from rad3d.core.errors import MissingWeights
from rad3d.model.llm.hub import Hub, explained, not_here
from rad3d.model.variants.variant import CONFIG_FILE

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
"""Files that are fetched of a variant and of its language model: no code, no pickles."""


def locate(
    name: str | Path, hub: Hub, revision: str | None = None, token: str | None = None
) -> Path:
    """A variant's directory: the named one, or else the hub's; raises MissingWeights."""
    directory = Path(name).expanduser()
    if (directory / CONFIG_FILE).is_file():
        return directory
    from huggingface_hub import snapshot_download  # not needed for local directories
    from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled

    try:
        folder = snapshot_download(
            str(name),
            revision=revision,
            endpoint=hub.url or None,
            token=token,
            local_files_only=hub.closed,
            allow_patterns=FILES,
        )
    except HFValidationError as error:
        raise _no_variant(name) from error
    except (OSError, HTTPError, OfflineModeIsEnabled) as error:
        raise (
            not_here(str(name)) if hub.closed else explained(error, str(name), hub, revision)
        ) from error
    if not (Path(folder) / CONFIG_FILE).is_file():
        raise _no_variant(name)
    return Path(folder)


def _no_variant(name: str | Path) -> MissingWeights:
    return MissingWeights(
        f"There is no variant in {name}: no {CONFIG_FILE}.",
        "Check the path, or train it with: rad3d train",
        code="missing_weights",
    )
