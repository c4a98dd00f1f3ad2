"""Loaded models: lazily, once, shared by everyone, within a bound on memory."""

from __future__ import annotations

import gc
from pathlib import Path

from rad3d.core.encoders import ENCODERS, EncoderRow
from rad3d.core.errors import BadRequest, CorruptWeights, MissingWeights, Rad3dError
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.lookup import lookup
from rad3d.core.settings import Settings
from rad3d.model.cache import ByteCache
from rad3d.model.catalogue import VariantCatalogue, readable
from rad3d.model.encoders.base import LoadedEncoder, load_encoder
from rad3d.model.encoders.calibration import NoveltyReference
from rad3d.model.encoders.head import with_head
from rad3d.model.encoders.noise import read_reference
from rad3d.model.identity import IMPORTED, weights_sha256
from rad3d.model.llm.architectures import Size
from rad3d.model.llm.failures import plain_errors
from rad3d.model.llm.hub import Hub, Progress, obtain
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.llm.loading import directory_size, load_language_model
from rad3d.model.llm.precision import Choice, choose, inspect_machine, total_memory
from rad3d.model.threads import Threads, computing
from rad3d.model.variants.adapters import adapter_parameters
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import (
    LLM_DIR,
    VariantConfig,
    variant_directory,
)


class ModelStore:
    """Encoders, language models and variants of one models folder.

    Frozen language models are loaded once and shared by all their variants. Thread-safe.

    Args:
        settings: places, limits, and where and how exactly language models run.

    Attributes:
        catalogue: which variants are here, and what the others need.
    """

    def __init__(self, settings: Settings) -> None:
        self.threads = Threads(settings.threads)
        self.models_dir = settings.models_dir
        self.hub = Hub.from_settings(settings)
        self._settings = settings
        self._cache = ByteCache(_model_memory(settings.model_cache_mb))
        self._noise: dict[str, NoveltyReference | None] = {}
        self._failed: dict[str, tuple[Rad3dError, tuple[tuple[int, int], ...]]] = {}
        self.catalogue = VariantCatalogue(self.models_dir, self.hub, lambda: self.failures)

    @property
    def nbytes(self) -> int:
        """Bytes of the models held now."""
        return self._cache.nbytes

    @property
    def loaded(self) -> int:
        """The number of encoders, language models and variants in memory."""
        return len(self._cache)

    @property
    def device(self) -> str:
        """The device of encoders. It is that of language models, but the processor where a GPU is
        lent for single reports, since scans are also encoded outside of them.
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

    def noise(self, encoder_id: str) -> NoveltyReference | None:
        """The noise reference of a loaded encoder's training scans; None where it has none."""
        return self._noise.get(encoder_id)

    def _load_encoder(self, row: EncoderRow) -> LoadedEncoder:
        self._failed.pop(row.id, None)
        try:
            remedy = f"Restore them, or make them again with: {row.command}"
            with (
                plain_errors(f"load the encoder {row.id}"),
                readable(f"The files of the encoder {row.id}", remedy),
            ):
                self._noise[row.id] = read_reference(self.models_dir / row.source)
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

    def ready(self, variant: str) -> VariantConfig:
        """The configuration of a variant that can be loaded; reads no weights.

        Raises:
            UnknownName: not in the registry.
            MissingWeights: not trained; the remedy is the command that trains it.
        """
        status = self.catalogue.status(variant)
        if not status.ready:
            raise MissingWeights(status.reason, f"Run: {status.command}", code="missing_weights")
        return self.catalogue.config(status.id)

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
        config = self.ready(variant)
        reporter = self._cache.get(
            ("variant", config.id), lambda: self._load_variant(config, progress), _own_bytes
        )
        # The language model counts as used later than its variants, so it is dropped after them.
        self._cache.touch(("language", config.llm_source, config.llm_revision))
        return reporter

    def _load_variant(self, config: VariantConfig, progress: Progress | None) -> PrefixReporter:
        with plain_errors(f"load {config.id}"), computing(self.threads.for_encoder()):
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

    def _choose_listed(self, source: str) -> None:
        """Refuse a listed model that cannot fit, before it is fetched."""
        rows = (row for row in LANGUAGE_MODELS.values() if row.source == source)
        row = next(rows, None)
        if row and row.config:
            self._choice(row.name, Size(row.parameters, row.linear_parameters))

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


def _stored_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def _own_bytes(reporter: PrefixReporter) -> int:
    """Bytes of a variant without a language model that others share."""
    own = [*reporter.projector.parameters(), *adapter_parameters(reporter.llm)]
    nbytes = sum(p.numel() * p.element_size() for p in own)
    return nbytes + (reporter.language.nbytes if reporter.config.mode_row.trains_llm else 0)


def _model_memory(megabytes: int) -> int:
    """Bytes for loaded models; -1 is half of the machine's memory (4 GB where it is not known)."""
    return megabytes * 2**20 if megabytes >= 0 else total_memory() // 2 or 2**32
