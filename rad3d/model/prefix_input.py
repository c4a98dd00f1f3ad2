"""The input of a report without its scan, and the embeddings that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rad3d.core.details import finding_bits
from rad3d.core.errors import BadRequest
from rad3d.core.findings import Finding
from rad3d.core.modes import KNOWN
from rad3d.core.types import FloatArray
from rad3d.model.variants.reporter import PrefixReporter


@dataclass(frozen=True)
class PrefixInput:
    """What a report is written from; each mode reads a part of it.

    Attributes:
        latent: (D,) image embedding.
        logits: (L,) diagnostic logits.
        tokens: (N, C) visual tokens.
        findings: what is present; None is what the classifier says of the embedding.
    """

    latent: FloatArray
    logits: FloatArray | None = None
    tokens: FloatArray | None = None
    findings: tuple[Finding, ...] | None = None


Diagnose = Callable[[PrefixReporter, FloatArray], tuple[Finding, ...]]
"""The findings of an embedding, as the encoder of a variant has them."""


@torch.inference_mode()
def conditionings(
    reporter: PrefixReporter, inputs: Sequence[PrefixInput], diagnose: Diagnose
) -> list[Tensor]:
    """(N, H) embeddings in front of each report; where findings are words, their N differ.

    Raises:
        BadRequest: an input lacks what the mode reads.
    """
    row = reporter.config.mode_row
    findings = [_findings(reporter, each, diagnose) for each in inputs]
    prefix = reporter.prefix(
        torch.from_numpy(np.stack([each.latent for each in inputs])).float(),
        _stacked(reporter, [each.logits for each in inputs], "logits"),
        _stacked(reporter, [each.tokens for each in inputs], "tokens"),
        torch.from_numpy(
            np.stack([finding_bits(each, reporter.config.label_set) for each in findings])
        ),
    )
    if not row.words:
        return list(reporter.conditioning(prefix))
    return [
        reporter.conditioning(own[None], reporter.context(given))[0]
        for own, given in zip(prefix, findings, strict=True)
    ]


def _findings(
    reporter: PrefixReporter, given: PrefixInput, diagnose: Diagnose
) -> tuple[Finding, ...]:
    if "findings" not in reporter.config.mode_row.reads:
        return ()
    return diagnose(reporter, given.latent) if given.findings is None else given.findings


def _stacked(
    reporter: PrefixReporter, values: Sequence[FloatArray | None], what: str
) -> Tensor | None:
    """(B, ...) of what a mode reads; None where it does not."""
    if what not in reporter.config.mode_row.reads:
        return None
    given = [value for value in values if value is not None]
    if len(given) < len(values):
        raise BadRequest(
            f"{reporter.config.id} makes its prefix from {KNOWN[what]}, which these features lack.",
            "Compute them with: rad3d features compute --tokens"
            if what == "tokens"
            else "Choose a variant that does without, or an encoder with a head.",
            code=f"no_{what}",
        )
    stacked = torch.from_numpy(np.stack(given)).float()
    if what == "logits" and stacked.shape[1] != reporter.config.logits_dim:
        raise BadRequest(
            f"{reporter.config.id} needs the logits of {reporter.config.label_set}, not "
            f"{stacked.shape[1]} of others.",
            "Give features with the logits that it was trained with.",
            code="other_labels",
        )
    return stacked
