"""A head for labels and their attributes, or the calibration of one, fitted for an encoder.

It lies in the folder ``head`` below the encoder's own: ``head.json`` says what it is and what it
reached, and names the file of its arrays by their hash, so a head is replaced in one step. The
weights of the encoder stay what they are, and so do the features they are known by.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from rad3d.core.details import attribute_names
from rad3d.core.encoders import ENCODERS, EncoderRow
from rad3d.core.errors import BadRequest, CorruptWeights, MissingWeights
from rad3d.core.files import write_whole
from rad3d.core.labels import CT_RATE, LabelSet
from rad3d.core.lookup import resolve
from rad3d.core.types import Diagnosis, FloatArray
from rad3d.model.encoders.base import Encoding, LoadedEncoder
from rad3d.model.encoders.calibration import Calibration, HeadState, NoveltyReference
from rad3d.model.identity import EncoderIdentity, weights_sha256

HEAD_DIR, HEAD_FILE = "head", "head.json"
SCHEMA_ID = "rad3d-head/1"

FIT = "rad3d head fit --encoder {} --features FEATURES --labels LABELS.csv"
CALIBRATE = "rad3d head calibrate --encoder {} --features FEATURES --labels LABELS.csv"

TO_FIT_AGAIN = ("corrupt_head", "stale_head")
"""Codes of a head that cannot be used while the weights of its encoder are sound."""


@dataclass(frozen=True, eq=False)
class Head:
    """A classification head or calibration fitted to an encoder's features and known labels.

    Attributes:
        encoder: whose features; :attr:`EncoderIdentity.is_imported` where nobody can prove it.
        calibration: of the logits.
        weight, bias: (L, D) and (L,): the logits of an embedding are ``weight @ z + bias``;
            None where it is the encoder's own head that was calibrated.
        reference: embeddings that a scan is compared with; None where there were too few.
        facts: plain JSON values: how it was fitted, and what it reached on held-out patients.
        correction: (L, D): ``correction @ z`` is added to the logits before they are calibrated,
            so that probabilities learn from more scans than the logits, which stay what they are.
        details: (A, D + 1): logits of the attributes of
            :func:`rad3d.core.details.attribute_names`, the bias last.
        label_set: the L labels.
    """

    encoder: EncoderIdentity
    calibration: Calibration
    weight: FloatArray | None = None
    bias: FloatArray | None = None
    reference: NoveltyReference | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    correction: FloatArray | None = None
    details: FloatArray | None = None
    label_set: LabelSet = CT_RATE

    def __post_init__(self) -> None:
        n = len(self.label_set)
        arrays = self.arrays()
        wrong = [name for name, a in arrays.items() if not np.isfinite(a).all()]
        calibrated = [a for name, a in arrays.items() if name.startswith("calibration.")]
        if any(a.shape != (n,) for a in calibrated):
            wrong.append("calibration")
        if (self.weight is None) != (self.bias is None):
            wrong.append("weight without bias")
        if self.weight is not None and self.bias is not None:
            shaped = self.weight.ndim == 2 and len(self.weight) == n
            if not shaped or self.bias.shape != (n,):
                wrong.append("weight and bias")
        if self.correction is not None and len(self.correction) != n:
            wrong.append("correction")
        if self.details is not None and len(self.details) != len(attribute_names(self.label_set)):
            wrong.append("details")
        if wrong:
            raise BadRequest(f"This is no head: {', '.join(wrong)} cannot be.", code="bad_head")

    @property
    def sha256(self) -> str:
        """Hash of weight and bias, and so of the logits; empty where they are the encoder's own."""
        if self.weight is None or self.bias is None:
            return ""
        arrays = (np.ascontiguousarray(a, np.float64) for a in (self.weight, self.bias))
        return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()

    def logits(self, embedding: FloatArray) -> FloatArray | None:
        """(..., D) -> (..., L) float64; None where the logits are the encoder's own."""
        if self.weight is None or self.bias is None:
            return None
        return cast(FloatArray, np.asarray(embedding, np.float64) @ self.weight.T + self.bias)

    def corrected(self, logits: FloatArray, embedding: FloatArray) -> FloatArray:
        """(..., L) logits of (..., D) embeddings as they are calibrated."""
        if self.correction is None:
            return logits
        found: FloatArray = logits + np.asarray(embedding, np.float64) @ self.correction.T
        return found

    def diagnosis(self, logits: FloatArray, embedding: FloatArray, source: str) -> Diagnosis:
        """What (L,) logits and a (D,) embedding say, with calibrated probabilities."""
        z = np.asarray(embedding, np.float64)
        details = None
        if self.details is not None:
            details = 1 / (1 + np.exp(-(self.details[:, :-1] @ z + self.details[:, -1])))
        return Diagnosis(
            logits=logits,
            probabilities=self.calibration.probabilities(self.corrected(logits, z)),
            thresholds=self.calibration.threshold,
            source=source,
            details=details,
            label_set=self.label_set,
        )

    def arrays(self) -> dict[str, FloatArray]:
        """All arrays by name."""
        named = {
            "calibration.slope": self.calibration.slope,
            "calibration.offset": self.calibration.offset,
            "calibration.threshold": self.calibration.threshold,
        }
        if self.weight is not None and self.bias is not None:
            named |= {"weight": self.weight, "bias": self.bias}
        if self.correction is not None:
            named["correction"] = self.correction
        if self.details is not None:
            named["details"] = self.details
        if self.reference is not None:
            named |= {
                "novelty.mean": self.reference.mean,
                "novelty.whitening": self.reference.whitening,
                "novelty.quantiles": self.reference.quantiles,
            }
        return named

    def save(self, folder: Path) -> None:
        """Write into the folder of the encoder; what was there before goes."""
        directory = folder / HEAD_DIR
        data = save({k: np.ascontiguousarray(v, np.float64) for k, v in self.arrays().items()})
        digest = hashlib.sha256(data).hexdigest()
        name = f"{digest[:16]}.safetensors"
        config = {
            "schema": SCHEMA_ID,
            "encoder": asdict(self.encoder),
            "file": name,
            "file_sha256": digest,
            "head_sha256": self.sha256,
            "calibration_split": self.calibration.split,
            "novelty_limit": self.reference.limit if self.reference else None,
            "facts": dict(self.facts),
            "label_set": self.label_set.to_plain(),
        }
        write_whole(directory / name, data)
        write_whole(directory / HEAD_FILE, (json.dumps(config, indent=2) + "\n").encode())
        for old in directory.glob("*.safetensors"):
            if old.name != name:
                old.unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path) -> Head | None:
        """Read the head that :meth:`save` wrote into an encoder's folder; None where there is none.

        Raises:
            CorruptWeights: a file is absent, damaged, or not the one that was written.
        """
        directory = folder / HEAD_DIR
        if not (directory / HEAD_FILE).is_file():
            return None
        try:
            config = json.loads((directory / HEAD_FILE).read_text(encoding="utf-8"))
            data = (directory / Path(config["file"]).name).read_bytes()
            if (
                config["schema"] != SCHEMA_ID
                or hashlib.sha256(data).hexdigest() != config["file_sha256"]
            ):
                raise ValueError("another file")
            return cls._of(config, load(data))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, BadRequest) as error:
            raise CorruptWeights(
                f"The head in {folder.name}/{HEAD_DIR} cannot be read.",
                f"Remove {directory}, or fit it again.",
                code=TO_FIT_AGAIN[0],
            ) from error

    @classmethod
    def _of(cls, config: Mapping[str, Any], arrays: dict[str, FloatArray]) -> Head:
        slope, offset, threshold = (
            arrays.pop(f"calibration.{name}") for name in ("slope", "offset", "threshold")
        )
        novelty = {
            name.partition(".")[2]: arrays.pop(name)
            for name in list(arrays)
            if name.startswith("novelty.")
        }
        return cls(
            EncoderIdentity(**config["encoder"]),
            Calibration(slope, offset, threshold, str(config["calibration_split"])),
            reference=NoveltyReference(**novelty, limit=config["novelty_limit"])
            if novelty
            else None,
            facts=config["facts"],
            label_set=LabelSet.from_plain(config.get("label_set")),
            **arrays,
        )


class HeadedEncoder:
    """An encoder with the head, the calibration and the reference that were fitted for it.

    Args:
        encoder: without them.
        head: fitted on what it gives.
    """

    def __init__(self, encoder: LoadedEncoder, head: Head) -> None:
        self.encoder, self.head = encoder, head
        self.id, self.grid = encoder.id, encoder.grid
        self.embedding_dim = encoder.embedding_dim
        self.calibration: Calibration | None = head.calibration
        self.label_set = head.label_set

    def encode(self, values: FloatArray) -> Encoding:
        """Encode one volume; the fitted reference gives novelty where the encoder does not."""
        encoding = self.encoder.encode(values)
        if encoding.novelty is not None or self.head.reference is None:
            return encoding
        vector = encoding.pooled.astype(np.float64)
        return replace(encoding, novelty=self.head.reference.measure(vector))

    def diagnose(self, pooled: FloatArray, readings: FloatArray | None = None) -> Diagnosis:
        """(D,) embedding -> diagnosis with calibrated probabilities."""
        logits = self.head.logits(pooled)
        if logits is not None:
            return self.head.diagnosis(logits, pooled, self.id)
        own = self.encoder.diagnose(pooled, readings)
        found = self.head.diagnosis(own.logits, pooled, self.id)
        return found if found.details is not None else replace(found, details=own.details)


def with_head(encoder: LoadedEncoder, folder: Path) -> LoadedEncoder:
    """The encoder with what was fitted for it; as it is where that is nothing.

    Args:
        encoder: as its files are.
        folder: of its files.

    Raises:
        CorruptWeights: the head was fitted on other weights, or another grid.
    """
    head = Head.read(folder)
    if head is None:
        return encoder
    fits = head.weight is None or head.weight.shape[1] == encoder.embedding_dim
    here = EncoderIdentity(encoder.id, weights_sha256(folder), encoder.grid.id)
    if not fits or differs(head.encoder, here):
        raise CorruptWeights(
            f"The head in {folder.name}/{HEAD_DIR} was fitted for other weights of {encoder.id} or "
            "another model grid.",
            f"Fit it again with: {head_command(encoder.id, folder)}, or remove {folder / HEAD_DIR}",
            code=TO_FIT_AGAIN[1],
        )
    return HeadedEncoder(encoder, head)


def differs(one: EncoderIdentity, other: EncoderIdentity) -> bool:
    """Whether two identities are of different weights; where one was imported, the id decides."""
    imported = one.is_imported or other.is_imported
    return one.id != other.id if imported else one != other


def no_head(encoder_id: str) -> MissingWeights:
    """The error of an encoder that gives no diagnosis as yet, with the way to one."""
    row = ENCODERS[encoder_id]
    fit = (
        f"Encode labelled scans with: rad3d features compute SCANS --encoder {encoder_id} --out "
        f"FEATURES, then run: {FIT.format(encoder_id)}"
    )
    return MissingWeights(
        f"{row.name} has no head for labels here, so it gives no diagnosis.",
        f"{row.head} Or: {fit}" if row.head else fit,
        code="no_head",
    )


class _HasOwnHead(Protocol):
    """Interface of an encoder class that describes its files without reading weights."""

    @classmethod
    def own_head(cls, directory: Path) -> HeadState: ...


def _own_head(encoder_id: str, folder: Path) -> HeadState:
    encoder: type[_HasOwnHead] = resolve(ENCODERS[encoder_id].target)
    return encoder.own_head(folder)


def head_state(row: EncoderRow, models_dir: Path) -> HeadState:
    """Whether an encoder gives logits here, and whether they are calibrated; reads no weights."""
    folder = models_dir / row.source
    fitted = (folder / HEAD_DIR / HEAD_FILE).is_file()
    return "calibrated" if fitted else _own_head(row.id, folder)


def head_command(encoder_id: str, folder: Path) -> str:
    """The command that fits a head or calibrates the encoder's own, replacing an earlier fit."""
    command = FIT if _own_head(encoder_id, folder) == "none" else CALIBRATE
    replacing = " --replace" if (folder / HEAD_DIR / HEAD_FILE).is_file() else ""
    return command.format(encoder_id) + replacing


def head_sha256(encoder_id: str, models_dir: Path) -> str:
    """:attr:`Head.sha256` of the head that gives an encoder's logits here; reads no weights."""
    path = models_dir / ENCODERS[encoder_id].source / HEAD_DIR / HEAD_FILE
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["head_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # there is none, or it is named when it is loaded
