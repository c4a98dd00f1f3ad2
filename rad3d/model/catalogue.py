"""The variants in a models folder: which are ready, and what the others need.

Reads configurations and the headers of weight files, no weights.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from rad3d.core.encoders import ENCODERS, EncoderRow
from rad3d.core.errors import CorruptWeights, Rad3dError, UnknownName
from rad3d.core.language_models import LANGUAGE_MODELS, LanguageModel
from rad3d.core.modes import MODES, Mode
from rad3d.core.variant_ids import split_variant_id, variant_id, variant_tag
from rad3d.model.encoders.head import TO_FIT_AGAIN, head_command, head_sha256, head_state
from rad3d.model.llm.hub import Hub, find_cached, find_local
from rad3d.model.variants.adapters import ADAPTER_DIR
from rad3d.model.variants.variant import (
    CONFIG_FILE,
    LLM_DIR,
    PROJECTOR_FILE,
    VariantConfig,
    variant_directory,
)

STORED_FEATURES = "assets/study/features/phantom-train.safetensors"
"""Features of the shipped encoder to train on, which make rendering needless; no visual tokens."""


@dataclass(frozen=True)
class VariantStatus:
    """Whether a variant can be used here.

    Attributes:
        id: such as ``phantom-m/v3``.
        ready: True where its files are in place (hashes are checked when it is loaded).
        reason: why it is not ready, one sentence.
        command: what makes it ready.
        parameters: of the language model, 0 where not known.
        trainable: parameters that its training changes, 0 where not known.
        licence: of the weights.
        encoder: id of the encoder it listens to.
    """

    id: str
    ready: bool
    reason: str = ""
    command: str = ""
    parameters: int = 0
    trainable: int = 0
    licence: str = ""
    encoder: str = ""


class VariantCatalogue:
    """The variants of one models folder.

    Args:
        models_dir: the folder.
        hub: where frozen language models may be fetched from.
        failures: tells which encoders could not be loaded when last tried, and why.
    """

    def __init__(
        self, models_dir: Path, hub: Hub, failures: Callable[[], Mapping[str, Rad3dError]]
    ) -> None:
        self.models_dir = models_dir
        self.hub = hub
        self._failures = failures

    def config(self, variant: str) -> VariantConfig:
        """The configuration in ``variant.json``; raises MissingWeights where there is none."""
        directory = variant_directory(self.models_dir, variant)
        with readable(f"{variant}/{CONFIG_FILE}", "Restore it, or train the variant again."):
            config = VariantConfig.read(directory)
        if config.id != variant:
            raise CorruptWeights(
                f"The directory of {variant} holds {config.id}.",
                "Put each variant into the directory of its own name.",
                code="corrupt_weights",
            )
        return config

    def needs_download(self, variant: str) -> bool:
        """True where the variant's language model would be fetched first."""
        status = self.status(variant)
        if not status.ready:
            return False
        config = self.config(status.id)
        if config.mode_row.trains_llm or find_local(config.llm_source, self.models_dir):
            return False
        return find_cached(config.llm_source, config.llm_revision) is None

    def statuses(self) -> tuple[VariantStatus, ...]:
        """Every listed language model in every mode, in order; then trained variants of others."""
        listed = [variant_id(llm, mode) for llm in LANGUAGE_MODELS for mode in MODES]
        return tuple(self.status(variant) for variant in (*listed, *self._others()))

    def _others(self) -> list[str]:
        """Ids of trained variants whose language model is not in the table."""
        folders = sorted(variant_directory(self.models_dir, "").glob(f"*--*/*/{CONFIG_FILE}"))
        found = [f"{path.parent.parent.name}/{path.parent.name}" for path in folders]
        return [v for v in found if _is_name(v)]

    def status(self, variant: str) -> VariantStatus:
        """Whether one variant is ready; reads no weights. Raises UnknownName."""
        llm, mode = split_variant_id(variant)
        variant = variant_id(llm.id, mode.id, variant_tag(variant))
        directory = variant_directory(self.models_dir, variant)
        command = _command(llm, mode, self.models_dir)
        parameters = llm.parameters or self._parameters(self.models_dir / llm.source)
        if not (directory / CONFIG_FILE).is_file():
            lacking = "trained" if mode.trains else "set up"
            reason = f"{llm.name} in mode {mode.name} has not been {lacking} yet."
            return VariantStatus(variant, False, reason, command, parameters, 0, llm.licence)
        try:
            config = self.config(variant)
        except Rad3dError as error:
            return VariantStatus(variant, False, error.problem, command, parameters, 0, llm.licence)
        parameters = self._parameters(directory / LLM_DIR) or parameters
        trainable = self._parameters(directory) + self._parameters(directory / ADAPTER_DIR)
        trainable += parameters if mode.trains_llm else 0
        reason = self._missing_part(directory, config)
        if self._lacks_head(config):
            folder = self.models_dir / ENCODERS[config.encoder].source
            command = head_command(config.encoder, folder)
        elif self._lacks_encoder(config) or self._has_corrupt_encoder(config):
            command = ENCODERS[config.encoder].command
        return VariantStatus(
            variant,
            not reason,
            reason,
            command if reason else "",
            parameters,
            trainable,
            config.licence or llm.licence,
            config.encoder,
        )

    def _lacks_encoder(self, config: VariantConfig) -> bool:
        row = ENCODERS.get(config.encoder)
        return row is not None and not encoder_is_here(row, self.models_dir)

    def _lacks_head(self, config: VariantConfig) -> bool:
        """True where the encoder is here, and its head is not, or cannot be used."""
        row = ENCODERS.get(config.encoder)
        if row is None or self._lacks_encoder(config):
            return False
        error = self._failures().get(row.id)
        useless = error is not None and error.code in TO_FIT_AGAIN
        return useless or head_state(row, self.models_dir) == "none"

    def _has_other_head(self, config: VariantConfig) -> bool:
        if not config.logits_dim or config.encoder not in ENCODERS:
            return False
        return head_sha256(config.encoder, self.models_dir) != config.head_sha256

    def _has_corrupt_encoder(self, config: VariantConfig) -> bool:
        return isinstance(self._failures().get(config.encoder), CorruptWeights)

    def _missing_part(self, directory: Path, config: VariantConfig) -> str:
        for name in (PROJECTOR_FILE, *config.files):
            if not (directory / name).is_file():
                return f"{config.id} lacks its file {name}."
        if self._lacks_encoder(config):
            encoder = ENCODERS[config.encoder]
            way = "" if encoder.shipped else f" {encoder.get}"
            return f"{config.id} needs the encoder {config.encoder}, which is not here.{way}"
        if self._has_corrupt_encoder(config):
            return f"{config.id} needs its encoder. {self._failures()[config.encoder].problem}"
        if self._lacks_head(config):
            return f"{config.id} needs a head for labels, which {config.encoder} lacks here."
        if self._has_other_head(config):
            return f"{config.id} was trained with the logits of another head of {config.encoder}."
        if config.encoder and config.encoder not in ENCODERS:
            return f"{config.id} needs an encoder that is not known here: {config.encoder}."
        if config.mode_row.trains_llm or find_local(config.llm_source, self.models_dir):
            return ""
        if config.llm in LANGUAGE_MODELS and LANGUAGE_MODELS[config.llm].shipped:
            return f"{config.id} needs its frozen language model, which is not here."
        if config.llm_source.startswith("/"):
            return (
                f"{config.id} needs its frozen language model, which has left {config.llm_source}."
            )
        if self.hub.closed and not find_cached(config.llm_source, config.llm_revision):
            return f"{config.id} needs {config.llm_source}, and downloads are off."
        return ""

    def _parameters(self, directory: Path) -> int:
        return sum(parameter_count(path) for path in sorted(directory.glob("*.safetensors")))


def encoder_is_here(row: EncoderRow, models_dir: Path) -> bool:
    """True where an encoder's files are in place; they are checked when it is loaded."""
    folder = models_dir / row.source
    return all((folder / name).is_file() for name in row.files)


@contextmanager
def readable(files: str, remedy: str) -> Iterator[None]:
    """Around the reading of a model's files: what is wrong with them is said as such."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CorruptWeights(
            f"{files} cannot be read ({type(error).__name__}).", remedy, code="corrupt_weights"
        ) from error


def parameter_count(path: Path) -> int:
    """Number of parameters in a safetensors file, read from its header; scaling buffers apart."""
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, 2**26)))
    except (OSError, struct.error, ValueError):
        return 0  # an unreadable file is reported when the model is loaded
    return sum(
        math.prod(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__" and not name.startswith("scaling.")
    )


def _command(llm: LanguageModel, mode: Mode, models_dir: Path) -> str:
    """The command that makes a variant; a shipped language model may be absent as well."""
    if llm.shipped and (mode.is_published or not (models_dir / llm.source).is_dir()):
        return "rad3d demo build"
    command = f"rad3d train --llm {llm.id} --mode {mode.id}"
    if not llm.shipped or "tokens" in mode.reads:  # the stored features hold no tokens
        return command
    return f"{command} --features {STORED_FEATURES} --reports phantom-train"


def _is_name(variant: str) -> bool:
    """True where a folder's name is the id of a variant."""
    try:
        llm, mode = split_variant_id(variant)
    except UnknownName:
        return False
    return variant == variant_id(llm.id, mode.id)
