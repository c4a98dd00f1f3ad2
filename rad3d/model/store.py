"""Loaded models: lazily, once, shared by everyone, within a bound on memory; and their status."""

from __future__ import annotations

import gc
import json
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from rad3d.errors import BadRequest, CorruptWeights, MissingWeights, Rad3dError, UnknownName
from rad3d.model.architectures import Size
from rad3d.model.cache import ByteCache
from rad3d.model.encoder import LoadedEncoder, load_encoder
from rad3d.model.failures import plain_errors
from rad3d.model.head import TO_FIT_AGAIN, head_command, head_sha256, head_state, with_head
from rad3d.model.identity import IMPORTED, weights_sha256
from rad3d.model.language import LanguageBundle
from rad3d.model.loading import directory_size, load_language_model
from rad3d.model.precision import Choice, choose, inspect_machine, total_memory
from rad3d.model.reporter import PrefixReporter
from rad3d.model.sources import Hub, Progress, find_cached, find_local, obtain
from rad3d.model.variant import (
    CONFIG_FILE,
    LLM_DIR,
    PROJECTOR_FILE,
    VariantConfig,
    variant_directory,
)
from rad3d.registry import (
    ENCODERS,
    LANGUAGE_MODELS,
    MODES,
    EncoderRow,
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
    """

    id: str
    ready: bool
    reason: str = ""
    command: str = ""
    parameters: int = 0
    trainable: int = 0
    licence: str = ""
    encoder: str = ""


class ModelStore:
    """Encoders, language models and variants of one models folder.

    Frozen language models are loaded once and shared by all their variants. Thread-safe.

    Args:
        settings: places, limits, and where and how exactly language models run.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.models_dir = settings.models_dir
        self.hub = Hub.from_settings(settings)
        self._settings = settings
        self._cache = ByteCache(_model_memory(settings.model_cache_mb))
        self._failed: dict[str, tuple[Rad3dError, tuple[tuple[int, int], ...]]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the models held now."""
        return self._cache.nbytes

    @property
    def loaded(self) -> int:
        """How many encoders, language models and variants are held now."""
        return len(self._cache)

    @property
    def device(self) -> str:
        """Where encoders run: as language models do; but on the processor where a GPU is lent for
        single reports, since scans are also encoded outside of them.
        """
        wanted = "cpu" if self._settings.zero_gpu else self._settings.device
        return inspect_machine(wanted).device

    def encoder(self, encoder_id: str) -> LoadedEncoder:
        """A loaded encoder.

        Raises:
            UnknownName, MissingWeights: there is none.
            CorruptWeights: its files cannot be used.
            Rad3dError: there is no memory for it.
        """
        row = lookup("encoder", ENCODERS, encoder_id)
        folder = self.models_dir / row.source
        return self._cache.get(
            ("encoder", encoder_id),
            lambda: self._load_encoder(row),
            lambda _: _stored_bytes(folder),
        )

    def _load_encoder(self, row: EncoderRow) -> LoadedEncoder:
        self._failed.pop(row.id, None)
        try:
            remedy = f"Restore them, or make them again with: {row.command}"
            with (
                plain_errors(f"load the encoder {row.id}"),
                _readable(f"The files of the encoder {row.id}", remedy),
            ):
                encoder = load_encoder(row, self.models_dir, self.device)
                return with_head(encoder, self.models_dir / row.source)
        except MissingWeights:
            raise
        except Rad3dError as error:
            self._failed[row.id] = error, self._stamp(row)
            raise

    @property
    def failures(self) -> dict[str, Rad3dError]:
        """Encoders whose files are in place and could not be loaded when last tried, and why."""
        return {
            encoder: error
            for encoder, (error, stamp) in list(self._failed.items())
            if stamp == self._stamp(ENCODERS[encoder])
        }

    def _stamp(self, row: EncoderRow) -> tuple[tuple[int, int], ...]:
        """Tells whether an encoder's files were replaced."""
        stats = [path.stat() for path in sorted((self.models_dir / row.source).glob("*"))]
        return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)

    def language(
        self, source: str, revision: str | None = None, progress: Progress | None = None
    ) -> LanguageBundle:
        """A loaded, frozen language model, fetched first where it is not here.

        Args:
            source: directory below the models folder, any other, or a hub id.
            revision: of a hub model; None is the registry's, or else the main branch.
            progress: told about a download.

        Raises:
            MissingWeights, CorruptWeights: it cannot be had.
            BadRequest: it does not fit; the remedy is a smaller option.
        """

        def load() -> LanguageBundle:
            self._choose_listed(source)
            place = obtain(
                source,
                self.hub,
                models_dir=self.models_dir,
                revision=revision,
                progress=progress,
            )
            choice = self._choose(source, place)
            bundle = load_language_model(
                source,
                models_dir=self.models_dir,
                revision=revision,
                precision=choice.precision,
                device=choice.device,
                hub=self.hub,
                reason=choice.reason,
            )
            bundle.freeze()
            return bundle

        return self._cache.get(("language", source, revision), load, lambda b: b.nbytes)

    def variant(self, variant: str, progress: Progress | None = None) -> PrefixReporter:
        """A variant ready to write.

        Args:
            variant: its id.
            progress: told about the download of its language model.

        Raises:
            UnknownName: not in the registry.
            MissingWeights: not trained; the remedy is the command that trains it.
            CorruptWeights: a file is not the one that was saved.
            BadRequest: it does not fit into the memory given to models.
        """
        status = self.status(variant)
        if not status.ready:
            raise MissingWeights(status.reason, f"Run: {status.command}", code="missing_weights")
        config = self.config(status.id)
        reporter = self._cache.get(
            ("variant", status.id), lambda: self._load_variant(config, progress), _own_bytes
        )
        # The language model counts as used later than its variants, so it is dropped after them.
        self._cache.touch(("language", config.llm_source, config.llm_revision))
        return reporter

    def _load_variant(self, config: VariantConfig, progress: Progress | None) -> PrefixReporter:
        with plain_errors(f"load {config.id}"):
            return self._read_variant(config, progress)

    def _read_variant(self, config: VariantConfig, progress: Progress | None) -> PrefixReporter:
        self._check_encoder(config)
        directory = variant_directory(self.models_dir, config.id)
        if not config.mode_row.trains_llm:
            language = self.language(config.llm_source, config.llm_revision, progress)
            return PrefixReporter.from_pretrained(directory, language=language)
        choice = self._choose(config.id, directory / LLM_DIR)
        return PrefixReporter.from_pretrained(
            directory, precision=choice.precision, device=choice.device, reason=choice.reason
        )

    def _check_encoder(self, config: VariantConfig) -> None:
        """Refuse an encoder of other weights than the variant listened to in training."""
        expected = config.encoder_sha256
        if expected in ("", IMPORTED):
            return
        row = lookup("encoder", ENCODERS, config.encoder)
        if weights_sha256(self.models_dir / row.source) != expected:
            raise CorruptWeights(
                f"{config.id} was trained on features that other weights of {row.name} made than "
                "those that are here.",
                "Put those back, or train the variant again on features of these.",
                code="corrupt_weights",
            )

    def needs_download(self, variant: str) -> bool:
        """True where the variant's language model would be fetched first."""
        status = self.status(variant)
        if not status.ready:
            return False
        config = self.config(status.id)
        if config.mode_row.trains_llm or find_local(config.llm_source, self.models_dir):
            return False
        return find_cached(config.llm_source, config.llm_revision) is None

    def _choose_listed(self, source: str) -> None:
        """Refuse a listed model that cannot fit, before it is fetched."""
        rows = (row for row in LANGUAGE_MODELS.values() if row.source == source)
        row = next(rows, None)
        if row and row.architecture:
            self._choice(row.name, Size(row.parameters, row.architecture.linear_parameters))

    def _choose(self, name: str, directory: Path) -> Choice:
        return self._choice(name, directory_size(name, directory))

    def _choice(self, name: str, size: Size) -> Choice:
        """Device and precision; where memory is short, other loaded models are dropped first."""
        wanted = self._settings
        limit = self._cache.max_bytes
        try:
            machine = inspect_machine(wanted.device)
            return choose(name, size, machine, wanted.precision, limit)
        except BadRequest as error:
            if error.code != "model_too_large" or not len(self._cache):
                raise
        self._cache.drop(lambda key: True)
        gc.collect()
        return choose(name, size, inspect_machine(wanted.device), wanted.precision, limit)

    def config(self, variant: str) -> VariantConfig:
        """What the variant's ``variant.json`` says; raises MissingWeights where there is none."""
        directory = variant_directory(self.models_dir, variant)
        with _readable(f"{variant}/{CONFIG_FILE}", "Restore it, or train the variant again."):
            config = VariantConfig.read(directory)
        if config.id != variant:
            raise CorruptWeights(
                f"The directory of {variant} holds {config.id}.",
                "Put each variant into the directory of its own name.",
                code="corrupt_weights",
            )
        return config

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
        variant = variant_id(llm.id, mode.id)
        directory = variant_directory(self.models_dir, variant)
        command = _command(llm, mode)
        parameters = llm.parameters or self._parameters(self.models_dir / llm.source)
        if not (directory / CONFIG_FILE).is_file():
            reason = f"{llm.name} in mode {mode.name} has not been trained yet."
            return VariantStatus(variant, False, reason, command, parameters, 0, llm.licence)
        try:
            config = self.config(variant)
        except Rad3dError as error:
            return VariantStatus(variant, False, error.problem, command, parameters, 0, llm.licence)
        parameters = self._parameters(directory / LLM_DIR) or parameters
        trainable = self._parameters(directory) + (parameters if mode.trains_llm else 0)
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
        error = self.failures.get(row.id)
        useless = error is not None and error.code in TO_FIT_AGAIN
        return useless or head_state(row, self.models_dir) == "none"

    def _has_other_head(self, config: VariantConfig) -> bool:
        if not config.logits_dim or config.encoder not in ENCODERS:
            return False
        return head_sha256(config.encoder, self.models_dir) != config.head_sha256

    def _has_corrupt_encoder(self, config: VariantConfig) -> bool:
        return isinstance(self.failures.get(config.encoder), CorruptWeights)

    def _missing_part(self, directory: Path, config: VariantConfig) -> str:
        for name in (PROJECTOR_FILE, *config.files):
            if not (directory / name).is_file():
                return f"{config.id} lacks its file {name}."
        if self._lacks_encoder(config):
            encoder = ENCODERS[config.encoder]
            way = "" if encoder.shipped else f" {encoder.get}"
            return f"{config.id} needs the encoder {config.encoder}, which is not here.{way}"
        if self._has_corrupt_encoder(config):
            return f"{config.id} needs its encoder. {self.failures[config.encoder].problem}"
        if self._lacks_head(config):
            return f"{config.id} needs a head for the 18 labels, which {config.encoder} lacks here."
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
def _readable(files: str, remedy: str) -> Iterator[None]:
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


def _command(llm: LanguageModel, mode: Mode) -> str:
    return "rad3d demo build" if llm.shipped else f"rad3d train --llm {llm.id} --mode {mode.id}"


def _stored_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def _own_bytes(reporter: PrefixReporter) -> int:
    """Bytes of a variant without a language model that others share."""
    own = sum(p.numel() * p.element_size() for p in reporter.projector.parameters())
    return own + (reporter.language.nbytes if reporter.config.mode_row.trains_llm else 0)


def _is_name(variant: str) -> bool:
    """True where a folder's name is the id of a variant."""
    try:
        llm, mode = split_variant_id(variant)
    except UnknownName:
        return False
    return variant == variant_id(llm.id, mode.id)


def _model_memory(megabytes: int) -> int:
    """Bytes for loaded models; -1 is half of the machine's memory (4 GB where it is not known)."""
    return megabytes * 2**20 if megabytes >= 0 else total_memory() // 2 or 2**32
