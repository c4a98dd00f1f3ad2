"""A variant of each mode around a tiny language model, and a batch for it."""

from __future__ import annotations

from dataclasses import replace

import torch
from tiny_models import LATENT_DIM

from rad3d.core.details import finding_bits
from rad3d.core.findings import Finding
from rad3d.core.modes import MODES
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig

KNOWN = (Finding("Pleural effusion", "left", severity="mild", size_mm=12), Finding("Emphysema"))
TEXTS = ("Findings: Normal.", "Findings: A nodule of 8 mm in the right upper lobe.")


def small_config(mode: str = "v3", **changes: object) -> VariantConfig:
    """A configuration for embeddings of `LATENT_DIM` numbers and tokens of six."""
    base = VariantConfig(
        llm="phantom-s",
        mode=mode,
        llm_source="llms/phantom-s",
        latent_dim=LATENT_DIM,
        token_dim=6,
        projector=MODES[mode].projector,
        prefix_length=min(4, MODES[mode].prefix_length),
        clip_length=3,
        layers=1,
        heads=4,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def small_batch(
    reporter: PrefixReporter, texts: tuple[str, ...] = TEXTS
) -> tuple[torch.Tensor, ...]:
    """What a step of training is given: embeddings, logits, targets, tokens and known details."""
    generator = torch.Generator().manual_seed(3)
    latent = torch.randn(len(texts), LATENT_DIM, generator=generator)
    logits = torch.randn(len(texts), 18, generator=generator)
    contexts = [reporter.context(KNOWN)] * len(texts) if reporter.config.mode_row.words else ()
    targets = reporter.collate([reporter.report_ids(text) for text in texts], contexts)
    tokens = torch.randn(len(texts), reporter.config.prefix_length, 6, generator=generator)
    bits = torch.from_numpy(finding_bits(KNOWN)).expand(len(texts), -1)
    return latent, logits, *targets, tokens, bits
