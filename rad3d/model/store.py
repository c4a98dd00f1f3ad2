"""Loaded models: lazily, once, shared by everyone, within a bound on memory; and their status."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rad3d.errors import BadRequest, CorruptWeights, MissingWeights, Rad3dError
from rad3d.model.cache import ByteCache
from rad3d.model.encoder import LoadedEncoder, load_encoder
from rad3d.model.language import (
    LanguageBundle,
    find_language_model,
    load_language_model,
    offline,
)
from rad3d.model.variant import (
    CONFIG_FILE,
    LLM_DIR,
    PROJECTOR_FILE,
    PrefixReporter,
    VariantConfig,
    variant_directory,
)
from rad3d.registry import (
    ENCODERS,
    LANGUAGE_MODELS,
    MODES,
    LanguageModel,
    Mode,
    lookup,
    split_variant_id,
    variant_id,
)
from rad3d.settings import Settings


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
        scores: what was measured, by sample set.
    """

    id: str
    ready: bool
    reason: str = ""
    command: str = ""
    parameters: int = 0
    trainable: int = 0
    licence: str = ""
    encoder: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)


class ModelStore:
    """Encoders, language models and variants of one models folder.

    Frozen language models are loaded once and shared by all their variants. Thread-safe.

    Args:
        settings: ``models_dir``, ``model_cache_mb`` and ``threads``.
        dtype, device: of the language models.
    """

    def __init__(self, settings: Settings, dtype: str = "float32", device: str = "cpu") -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.models_dir = settings.models_dir
        self._dtype, self._device = dtype, device
        self._cache = ByteCache(settings.model_cache_mb * 2**20)

    @property
    def nbytes(self) -> int:
        """Bytes of the models held now."""
        return self._cache.nbytes

    @property
    def loaded(self) -> int:
        """How many encoders, language models and variants are held now."""
        return len(self._cache)

    def encoder(self, encoder_id: str) -> LoadedEncoder:
        """A loaded encoder; raises UnknownName, MissingWeights or CorruptWeights."""
        row = lookup("encoder", ENCODERS, encoder_id)
        folder = self.models_dir / row.source
        return self._cache.get(
            ("encoder", encoder_id),
            lambda: load_encoder(row, self.models_dir),
            lambda _: _stored_bytes(folder),
        )

    def language(self, source: str, revision: str | None = None) -> LanguageBundle:
        """A loaded, frozen language model; raises MissingWeights or CorruptWeights."""

        def load() -> LanguageBundle:
            local = find_language_model(source, self.models_dir)
            self._check_room(source, _stored_bytes(local) if local else 0)
            bundle = load_language_model(
                source,
                models_dir=self.models_dir,
                revision=revision,
                dtype=self._dtype,
                device=self._device,
            )
            self._check_room(source, bundle.nbytes)
            bundle.freeze()
            return bundle

        return self._cache.get(("language", source, revision), load, lambda b: b.nbytes)

    def variant(self, variant: str) -> PrefixReporter:
        """A variant ready to write.

        Raises:
            UnknownName: not in the registry.
            MissingWeights: not trained; the remedy is the command that trains it.
            CorruptWeights: a file is not the one that was saved.
            BadRequest: it does not fit into the memory given to models.
        """
        status = self.status(variant)
        if not status.ready:
            raise MissingWeights(status.reason, f"Run: {status.command}", code="missing_weights")
        config = self.config(variant)
        reporter = self._cache.get(
            ("variant", variant), lambda: self._load_variant(config), _own_bytes
        )
        # The language model counts as used later than its variants, so it is dropped after them.
        self._cache.touch(("language", config.llm_source, config.llm_revision))
        return reporter

    def _load_variant(self, config: VariantConfig) -> PrefixReporter:
        directory = variant_directory(self.models_dir, config.id)
        language = None
        if config.mode_row.trains_llm:
            self._check_room(config.id, _stored_bytes(directory / LLM_DIR))
        else:
            language = self.language(config.llm_source, config.llm_revision)
        reporter = PrefixReporter.from_pretrained(
            directory, language=language, dtype=self._dtype, device=self._device
        )
        self._check_room(config.id, _own_bytes(reporter))
        return reporter

    def config(self, variant: str) -> VariantConfig:
        """What the variant's ``variant.json`` says; raises MissingWeights where there is none."""
        config = VariantConfig.read(variant_directory(self.models_dir, variant))
        if config.id != variant:
            raise CorruptWeights(
                f"The directory of {variant} holds {config.id}.",
                "Put each variant into the directory of its own name.",
                code="corrupt_weights",
            )
        return config

    def statuses(self) -> tuple[VariantStatus, ...]:
        """Every language model in every mode, in the order of the registry."""
        return tuple(
            self.status(variant_id(llm, mode)) for llm in LANGUAGE_MODELS for mode in MODES
        )

    def status(self, variant: str) -> VariantStatus:
        """Whether one variant is ready; reads no weights. Raises UnknownName."""
        llm, mode = split_variant_id(variant)
        directory = variant_directory(self.models_dir, variant)
        command = _command(llm, mode)
        parameters = llm.parameters or self._parameters(self.models_dir / llm.source)
        if not (directory / CONFIG_FILE).is_file():
            reason = f"{llm.name} in mode {mode.name} has not been trained yet."
            return VariantStatus(variant, False, reason, command, parameters, 0, llm.licence)
        try:
            config = self.config(variant)
        except (Rad3dError, ValueError, TypeError) as error:
            reason = f"{variant}/{CONFIG_FILE} cannot be read ({error})."
            return VariantStatus(variant, False, reason, command, parameters, 0, llm.licence)
        parameters = self._parameters(directory / LLM_DIR) or parameters
        trainable = self._parameters(directory) + (parameters if mode.trains_llm else 0)
        reason = self._missing_part(directory, config)
        return VariantStatus(
            variant,
            not reason,
            reason,
            command if reason else "",
            parameters,
            trainable,
            config.licence or llm.licence,
            config.encoder,
            config.scores,
        )

    def _missing_part(self, directory: Path, config: VariantConfig) -> str:
        for name in (PROJECTOR_FILE, *config.files):
            if not (directory / name).is_file():
                return f"{config.id} lacks its file {name}."
        if config.encoder in ENCODERS:
            source = ENCODERS[config.encoder].source
            if not (self.models_dir / source / "config.json").is_file():
                return f"{config.id} needs the encoder {config.encoder}, which is not here."
        elif config.encoder:
            return f"{config.id} needs an encoder that is not known here: {config.encoder}."
        if config.mode_row.trains_llm or find_language_model(config.llm_source, self.models_dir):
            return ""
        if config.llm in LANGUAGE_MODELS and LANGUAGE_MODELS[config.llm].shipped:
            return f"{config.id} needs its frozen language model, which is not here."
        if offline() and not _in_hub_cache(config.llm_source, config.llm_revision):
            return f"{config.id} needs {config.llm_source}, and downloads are off."
        return ""

    def _parameters(self, directory: Path) -> int:
        return sum(parameter_count(path) for path in sorted(directory.glob("*.safetensors")))

    def _check_room(self, name: str, nbytes: int) -> None:
        limit = self._cache.max_bytes
        if nbytes > limit:
            raise BadRequest(
                f"{name} needs {nbytes / 2**20:,.0f} MB, more than the {limit / 2**20:,.0f} MB "
                "that models may use here.",
                "Choose a smaller model, or raise RAD3D_MODEL_CACHE_MB.",
                code="model_too_large",
            )


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


def _command(llm: LanguageModel, mode: Mode) -> str:
    return "rad3d demo build" if llm.shipped else f"rad3d train --llm {llm.id} --mode {mode.id}"


def _stored_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def _own_bytes(reporter: PrefixReporter) -> int:
    """Bytes of a variant without a language model that others share."""
    own = sum(p.numel() * p.element_size() for p in reporter.projector.parameters())
    return own + (reporter.language.nbytes if reporter.config.mode_row.trains_llm else 0)


def _in_hub_cache(source: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache  # not needed for local models

    return isinstance(try_to_load_from_cache(source, "config.json", revision=revision), str)
