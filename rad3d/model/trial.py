"""A language model that was just loaded, tried on a few tokens: does a prefix mean what it should?

Families that no test here has seen may read tokens in another way than their embeddings, let a
token see those after it, or keep no cache that the decoding can use. All of that would write
fluent nonsense, so it is looked for when a model is loaded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rad3d.errors import BadRequest, CorruptWeights
from rad3d.model.decoding import Runner
from rad3d.model.language import LanguageBundle

WORDS = "Findings: no pleural effusion, heart size normal."

EXACT, NEAR = 0.01, 0.3
"""Allowed distance of two ways to the same scores, relative to them: in float32 they differ by
1e-5 or so; below it by the rounding of each, or by an expert that another rounding calls."""


def check_prompting(language: LanguageBundle) -> None:
    """Refuse a model that does not continue embeddings as it continues the tokens themselves.

    One pass reads eight tokens at once. Then the embeddings of the first four are read, and the
    next ones token by token through the cache: each score must be the same.

    Raises:
        BadRequest: they differ, or its tokenizer is that of another model.
        CorruptWeights: scores are no numbers.
    """
    marks = [i + 1 for i in (language.bos_id, *language.eos_ids[:1]) if i is not None]
    known = max(language.tokenizer.vocab_size, *marks, 1)
    if known > language.vocabulary:
        raise BadRequest(
            f"The tokenizer of {language.source} knows {known:,} tokens, and the model "
            f"{language.vocabulary:,}: they do not belong together.",
            "Restore its files, or choose another one.",
            code="unusable_model",
        )
    ids = torch.tensor([((language.tokens(WORDS) or [0]) * 8)[:8]], device=language.device)
    expected, scores = _both(language, ids)
    if not expected.isfinite().all():
        raise CorruptWeights(
            f"The language model {language.source} computes what is no number.",
            "Restore or download its weights again, or choose another precision.",
            code="corrupt_weights",
        )
    distance = torch.linalg.norm(scores - expected) / torch.linalg.norm(expected)
    limit = EXACT if language.precision == "float32" else NEAR
    if not distance <= limit:
        raise BadRequest(
            f"{language.source} does not continue a prefix as it continues tokens (its scores "
            f"differ by {distance:.0%}).",
            "Choose another model: this family is not a causal language model, or it needs the "
            "tokens themselves.",
            code="unusable_model",
        )


@torch.inference_mode()
def _both(language: LanguageBundle, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(4, V) scores after tokens 4 to 7 of (1, 8): read at once, and as reports are written."""
    runner = Runner(language)
    steps = [runner.start(language.embed(ids[:, :4]))]
    steps += [runner.step(ids[:, at]) for at in range(4, 7)]
    whole = language.model(ids, use_cache=False).logits[0, 3:7].float()
    return whole, torch.cat(steps)
