"""Variants on the Hugging Face Hub: where one is fetched from, and how one is uploaded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from rad3d.core.errors import MissingWeights
from rad3d.model.llm.hub import Hub, explained, not_here
from rad3d.model.variants.variant import CONFIG_FILE, VariantConfig

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
        found = snapshot_download(
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
    if not (Path(found) / CONFIG_FILE).is_file():
        raise _no_variant(name)
    return Path(found)


def _no_variant(name: str | Path) -> MissingWeights:
    return MissingWeights(
        f"There is no variant in {name}: no {CONFIG_FILE}.",
        "Check the path, or train it with: rad3d train",
        code="missing_weights",
    )


def upload(
    save: Callable[[Path], VariantConfig],
    repo_id: str,
    commit_message: str,
    private: bool | None = None,
    token: str | None = None,
) -> str:
    """Upload what ``save`` writes into a folder, and a model card; returns the URL."""
    from huggingface_hub import HfApi  # not needed without a hub

    api = HfApi(token=token)
    repo = api.create_repo(repo_id, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = save(folder)
        (folder / "README.md").write_text(model_card(config), encoding="utf-8")
        api.upload_folder(repo_id=repo.repo_id, folder_path=name, commit_message=commit_message)
    return str(repo)


def model_card(config: VariantConfig) -> str:
    """A hub model card from what the configuration knows."""
    licence = f"license: {config.licence.lower()}\n" if config.licence else ""
    return (
        f"---\n{licence}library_name: rad3d\npipeline_tag: image-to-text\n---\n"
        f"# {config.id}\n\n{config.mode_row.summary}\n\n"
        f"Language model: {config.llm_source}. Encoder: {config.encoder or 'not stated'}.\n\n"
        "Research demo, not a medical device.\n"
    )
