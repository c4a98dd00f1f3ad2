"""A variant on disk: ``variant.json`` that describes it, its weights, and their hashes.

In memory it is a :class:`rad3d.model.variants.reporter.PrefixReporter`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from rad3d.core.config_sizes import LAYERS, WIDTHS, check_sizes
from rad3d.core.encoders import SHIPPED_ENCODER, knows_only_phantoms
from rad3d.core.errors import BadRequest, CorruptWeights, MissingWeights
from rad3d.core.files import file_sha256, readable_like
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.lookup import lookup
from rad3d.core.modes import MODES, Mode
from rad3d.core.variant_ids import variant_id

CONFIG_FILE = "variant.json"
PROJECTOR_FILE = "projector.safetensors"
LLM_DIR = "llm"
PREFIX_SCALES = ("published", "words")


@dataclass(frozen=True)
class VariantConfig:
    """Everything that describes a variant; written as ``variant.json``.

    Attributes:
        llm: row of the language model, or any name for one that is not in the table.
        mode: row of the adaptation mode.
        llm_source: directory below the models folder or hub id of the language model it
            starts from; a V-1 brings its own copy.
        llm_revision: of a hub model.
        llm_sha256: hash of a local frozen language model's weights, checked when it is loaded.
        encoder: id of the encoder whose latents it was trained on.
        encoder_sha256: hash of that encoder's weights, where it is known.
        head_sha256: hash of the head, fitted here, whose logits it was trained on; empty for those
            of the encoder's own.
        preprocessing: identity of that encoder's model grid.
        projector: row of the projector.
        latent_dim: size of the image embedding.
        token_dim: size of a visual token, where the mode reads them.
        prefix_length, clip_length, layers, heads: of the projector; see :class:`Mode` for what
            ``prefix_length`` counts.
        prefix_scale: ``"published"`` leaves the prefix as the projector makes it; ``"words"``
            scales each of its vectors to the root mean square of the language model's embeddings.
        adapter_rank: of low-rank adapters, where the mode trains them.
        latent_weight, logits_weight: of the condition scaling; the paper has 1 and 1.
        standardised: True where latents and logits are standardised per dimension with the
            statistics of the training set, False for the paper's plain concatenation.
        bos_first: the start token comes before the prefix.
        prompt: text between prefix and report.
        licence: of the weights.
        files: path inside the variant's directory -> SHA-256.
        training: facts of the training run.
        label_set: the labels of the logits.
        tag: tells trainings of one language model and mode apart; empty for the one in use.
    """

    llm: str
    mode: str
    llm_source: str
    llm_revision: str | None = None
    llm_sha256: str = ""
    encoder: str = ""
    encoder_sha256: str = ""
    head_sha256: str = ""
    preprocessing: str = ""
    projector: str = "transformer"
    latent_dim: int = 512
    token_dim: int = 0
    prefix_length: int = 10
    clip_length: int = 10
    layers: int = 8
    heads: int = 8
    prefix_scale: str = "published"
    adapter_rank: int = 16
    latent_weight: float = 1.0
    logits_weight: float = 1.0
    standardised: bool = False
    bos_first: bool = True
    prompt: str = "\nReport:"
    licence: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    label_set: LabelSet = CT_RATE
    tag: str = ""

    def __post_init__(self) -> None:
        row = lookup("adaptation mode", MODES, self.mode)
        check_sizes(
            f"the variant {self.id}",
            {
                "layers": (self.layers, LAYERS),
                "heads": (self.heads, WIDTHS),
                "latent_dim": (self.latent_dim, WIDTHS),
                "prefix_length": (self.prefix_length, LAYERS if row.prefix_length else range(1)),
                "clip_length": (self.clip_length, LAYERS),
                "token_dim": (self.token_dim, range(WIDTHS.stop)),
                "adapter_rank": (self.adapter_rank, WIDTHS),
            },
        )
        lookup("scale of a prefix", dict.fromkeys(PREFIX_SCALES), self.prefix_scale)

    @property
    def id(self) -> str:
        """The id, such as ``phantom-m/v3``."""
        return variant_id(self.llm, self.mode, self.tag)

    @property
    def mode_row(self) -> Mode:
        """The adaptation mode."""
        return lookup("adaptation mode", MODES, self.mode)

    @property
    def condition_dim(self) -> int:
        """Size of the condition: image embedding and logits, each where the mode reads it."""
        return self.image_dim + self.logits_dim

    @property
    def image_dim(self) -> int:
        """Size of the image embedding where the mode reads it, else 0."""
        return self.latent_dim if "image" in self.mode_row.reads else 0

    @property
    def logits_dim(self) -> int:
        """The number of labels if the prefix is made from the logits as well, else 0."""
        return len(self.label_set) if self.mode_row.uses_logits else 0

    @property
    def pairs(self) -> int:
        """Pairs that its training saw, held-out ones included; 0 where that is not known."""
        held_out = self.training.get("held_out") or {}
        return int(self.training.get("pairs") or 0) + int(held_out.get("pairs") or 0)

    @property
    def phantoms_only(self) -> bool:
        """True if encoder and reports are of phantoms; shipped variants name no source."""
        source = self.training.get("source")
        of_phantoms = not source or "phantoms" in source
        return of_phantoms and knows_only_phantoms(self.encoder or SHIPPED_ENCODER)

    def to_json(self) -> str:
        """Indented JSON."""
        values = {"id": self.id, **asdict(self), "label_set": self.label_set.to_plain()}
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> VariantConfig:
        """The inverse of :meth:`to_json`; an unknown key is an error."""
        values = json.loads(text)
        stated = values.pop("id", None)
        values.pop("scores", None)  # earlier files held figures, which are an evaluation's now
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise BadRequest(f"{CONFIG_FILE} has unknown keys: {', '.join(sorted(unknown))}.")
        values["label_set"] = LabelSet.from_plain(values.get("label_set"))
        config = cls(**values)
        if stated not in (None, config.id):
            raise BadRequest(f"{CONFIG_FILE} calls itself {stated}, but describes {config.id}.")
        return config

    @classmethod
    def read(cls, directory: Path) -> VariantConfig:
        """Read the configuration in a directory; raises :class:`MissingWeights` without one."""
        path = directory / CONFIG_FILE
        if not path.is_file():
            raise MissingWeights(f"{directory} holds no variant.", code="missing_weights")
        return cls.from_json(path.read_text(encoding="utf-8"))


def variant_directory(models_dir: Path, variant: str) -> Path:
    """The directory of a variant: ``variants/<llm>/<mode>`` in the models folder."""
    return models_dir / "variants" / variant


def write_variant(
    directory: Path,
    config: VariantConfig,
    projector: nn.Module,
    scaling: nn.Module,
    dtype: torch.dtype,
    others: Sequence[Path] = (),
) -> VariantConfig:
    """Write ``projector.safetensors`` and ``variant.json``, which makes it a variant.

    Args:
        directory: there already; until the end it holds no ``variant.json``, so that one that is
            half written is no variant.
        config: what it is.
        projector: stored in ``dtype``.
        scaling: of its input, stored in float32.
        dtype: of the projector's weights.
        others: files of the language model that were written into the directory before.

    Returns:
        The configuration as written, with the files' hashes.
    """
    (directory / CONFIG_FILE).unlink(missing_ok=True)
    tensors = {k: v.to(dtype) for k, v in projector.state_dict().items()}
    tensors |= {f"scaling.{k}": v.float() for k, v in scaling.state_dict().items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    save_file(tensors, directory / PROJECTOR_FILE, metadata={"format": "pt"})
    written = (directory / PROJECTOR_FILE, *others)
    config = replace(
        config, files={p.relative_to(directory).as_posix(): file_sha256(p) for p in written}
    )
    part = directory / f".{CONFIG_FILE}.part"
    part.write_text(config.to_json(), encoding="utf-8")
    readable_like(part, *written)
    part.replace(directory / CONFIG_FILE)
    return config


def verify_files(directory: Path, config: VariantConfig) -> None:
    """Compare every recorded hash; raises MissingWeights or CorruptWeights naming the file."""
    for name, expected in config.files.items():
        path = directory / name
        if not path.is_file():
            raise MissingWeights(
                f"{config.id} lacks its file {name}.",
                restore_advice(config),
                code="missing_weights",
            )
        if file_sha256(path) != expected:
            raise CorruptWeights(
                f"{config.id}/{name} does not match its recorded hash.",
                restore_advice(config),
                code="corrupt_weights",
            )
    if PROJECTOR_FILE not in config.files:
        raise CorruptWeights(
            f"{config.id} records no hash for {PROJECTOR_FILE}.",
            restore_advice(config),
            code="corrupt_weights",
        )


def restore_advice(config: VariantConfig) -> str:
    """Advice for a variant whose files are not those that were saved."""
    return (
        "Restore it from the repository, or train it again with: "
        f"rad3d train --llm {config.llm} --mode {config.mode}"
    )
