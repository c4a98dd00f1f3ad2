"""The variants in a models folder: which are ready, and what the others need.

Reads configurations and the headers of weight files, no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError

from rad3d.core.encoders import ENCODERS, EncoderRow
from rad3d.core.errors import CorruptWeights, Rad3dError, UnknownName
from rad3d.core.language_models import LANGUAGE_MODELS, LLMS_DIR, LanguageModel
from rad3d.core.modes import MODES, Mode
from rad3d.core.variant_ids import split_variant_id, variant_id, variant_tag
from rad3d.model.encoders.head import TO_FIT_AGAIN, head_command, head_sha256, head_state
from rad3d.model.llm.folders import parameter_count
from rad3d.model.llm.hub import Hub, find_cached, find_local
from rad3d.model.llm.models_folder import folder_models, placed
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
        in_folder: True where its language model lies in the models folder and does not ship.
    """

    id: str
    ready: bool
    reason: str = ""
    command: str = ""
    parameters: int = 0
    trainable: int = 0
    licence: str = ""
    encoder: str = ""
    in_folder: bool = False


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
        """Every language model that is listed or lies in the models folder, in every mode, in
        order; then trained variants of others.
        """
        own = (row.id for row in folder_models(self.models_dir))
        llms = dict.fromkeys((*LANGUAGE_MODELS, *own))
        listed = [variant_id(llm, mode) for llm in llms for mode in MODES]
        variants = dict.fromkeys((*listed, *self._others()))
        return tuple(self.status(variant) for variant in variants)

    def _others(self) -> list[str]:
        """Ids of trained variants whose language model is not in the table."""
        folders = sorted(variant_directory(self.models_dir, "").glob(f"*--*/*/{CONFIG_FILE}"))
        found = [f"{path.parent.parent.name}/{path.parent.name}" for path in folders]
        return [v for v in found if _is_name(v)]

    def status(self, variant: str) -> VariantStatus:
        """Whether one variant is ready; reads no weights. Raises UnknownName."""
        row, mode = split_variant_id(variant)
        llm = placed(row, self.models_dir)
        own = not llm.shipped and (self.models_dir / llm.source / "config.json").is_file()
        variant = variant_id(llm.id, mode.id, variant_tag(variant))
        directory = variant_directory(self.models_dir, variant)
        command = _command(llm, mode, self.models_dir)
        parameters = llm.parameters or self._parameters(self.models_dir / llm.source)
        unready = VariantStatus(
            variant, False, "", command, parameters, licence=llm.licence, in_folder=own
        )
        if not (directory / CONFIG_FILE).is_file():
            lacking = "trained" if mode.trains else "set up"
            reason = f"{llm.name} in mode {mode.name} has not been {lacking} yet."
            return replace(unready, reason=reason)
        try:
            config = self.config(variant)
        except Rad3dError as error:
            return replace(unready, reason=error.problem)
        parameters = self._parameters(directory / LLM_DIR) or parameters
        trainable = self._parameters(directory) + self._parameters(directory / ADAPTER_DIR)
        trainable += parameters if mode.trains_llm else 0
        reason = self._missing_part(directory, config)
        if self._lacks_folder(config):
            command = f"ln -sfn FOLDER {self.models_dir / config.llm_source}"
        elif self._lacks_head(config):
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
            own,
        )

    def _lacks_folder(self, config: VariantConfig) -> bool:
        """True where the folder of a frozen language model that does not ship has gone."""
        in_folder = config.llm_source.startswith(("/", f"{LLMS_DIR}/"))
        own = in_folder and not split_variant_id(config.id)[0].shipped
        return (
            own
            and not config.mode_row.trains_llm
            and not find_local(config.llm_source, self.models_dir)
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
        if self._lacks_folder(config):
            place = self.models_dir / config.llm_source
            was = place.readlink() if place.is_symlink() else place
            return f"{config.id} needs its frozen language model, which has left {was}."
        if config.mode_row.trains_llm or find_local(config.llm_source, self.models_dir):
            return ""
        if config.llm in LANGUAGE_MODELS and LANGUAGE_MODELS[config.llm].shipped:
            return f"{config.id} needs its frozen language model, which is not here."
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
