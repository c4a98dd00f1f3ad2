"""The encoders of CTs, and what is said where they learned from phantoms. One row adds one."""

from __future__ import annotations

from dataclasses import dataclass

PHANTOMS = "synthetic phantoms"

DISCLAIMER = "Research demo, not a medical device; do not rely on its reports."

PHANTOMS_ONLY = f"The models learned from {PHANTOMS} only."


def disclaimer(phantoms_only: bool) -> str:
    """The disclaimer of the page and of every report; it says so if models know only phantoms."""
    return f"{DISCLAIMER} {PHANTOMS_ONLY}" if phantoms_only else DISCLAIMER


@dataclass(frozen=True)
class EncoderRow:
    """A CT encoder: where its class and weights are.

    Attributes:
        id: used in features and variants.
        name: shown to people.
        target: ``"module:attribute"`` of the class.
        source: directory below the models folder.
        shipped: True where the weights are in this repository.
        embedding_dim: D, the size of its embedding.
        trained_on: said to the person when a scan looks unlike it.
        licence: of the weights.
        get: the exact steps to the weights, where they do not ship.
        command: the last of them.
        head: where a head for labels can be had ready-made, if its weights lack one.
        files: what tells that it lies in its directory; the rest is checked when it is loaded.
    """

    id: str
    name: str
    target: str
    source: str
    shipped: bool
    embedding_dim: int
    trained_on: str
    licence: str = "Apache-2.0"
    get: str = "Train it with: rad3d demo build"
    command: str = "rad3d demo build"
    head: str = ""
    files: tuple[str, ...] = ("config.json",)


ENCODERS: dict[str, EncoderRow] = {
    row.id: row
    for row in (
        EncoderRow(
            "phantom-cnn",
            "Phantom CNN",
            "rad3d.model.encoders.phantom_cnn:ShippedEncoder",
            "encoders/phantom-cnn",
            True,
            256,
            PHANTOMS,
        ),
        EncoderRow(
            "phantom-clip",
            "Phantom CLIP",
            "rad3d.model.encoders.phantom_clip:ClipEncoder",
            "encoders/phantom-clip",
            True,
            256,
            PHANTOMS,
        ),
        EncoderRow(
            "ct-clip",
            "CT-CLIP",
            "rad3d.model.encoders.ctclip.encoder:CtClipEncoder",
            "encoders/ct-clip",
            False,
            512,
            "the chest CTs of CT-RATE",
            "CC-BY-NC-SA-4.0",
            "Accept the terms of the gated dataset ibrahimhamamci/CT-RATE on the Hugging Face Hub "
            "(for non-commercial use), log in with: hf auth login, then run: "
            "hf download ibrahimhamamci/CT-RATE models/CT-CLIP-Related/CT_LiPro_v2.pt "
            "--repo-type dataset --local-dir ct-rate, and: "
            "rad3d convert ct-rate/models/CT-CLIP-Related/CT_LiPro_v2.pt",
            "rad3d convert ct-rate/models/CT-CLIP-Related/CT_LiPro_v2.pt",
            head="Convert CT_LiPro_v2.pt, which holds the same encoder and a head.",
        ),
        EncoderRow(
            "colipri",
            "COLIPRI",
            "rad3d.model.encoders.colipri:ColipriEncoder",
            "encoders/colipri",
            False,
            768,
            "chest CTs with their reports",
            "MIT",
            'Run: pip install -e ".[colipri]", then: hf download microsoft/colipri '
            "model.safetensors --local-dir assets/models/encoders/colipri",
            "hf download microsoft/colipri model.safetensors "
            "--local-dir assets/models/encoders/colipri",
            files=("model.safetensors",),
        ),
    )
}

SHIPPED_ENCODER = "phantom-cnn"


def knows_only_phantoms(encoder_id: str) -> bool:
    """Whether an encoder learned from phantoms; False for one that is not in the table."""
    return encoder_id in ENCODERS and ENCODERS[encoder_id].trained_on == PHANTOMS
