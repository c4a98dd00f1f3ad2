"""A language model that was just loaded, tried on a few tokens: does a prefix mean what it should?

Families that no test here has seen may read tokens in another way than their embeddings, let a
token see those after it, or keep a cache of their own. All of that would write fluent nonsense, so
it is looked for when a model is loaded.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rad3d.core.errors import BadRequest, CorruptWeights
from rad3d.model.llm.decoding import Runner
from rad3d.model.llm.failures import UNUSABLE
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.llm.precision import is_out_of_memory

WORDS = "Findings: no pleural effusion, heart size normal."

EXACT, NEAR = 0.01, 0.3
"""Allowed distance of two ways to the same scores, relative to them: in float32 they differ by
1e-5 or so; below it by the rounding of each, or by an expert that another rounding calls."""


def verify_causal(language: LanguageBundle) -> LanguageBundle:
    """The model, if it continues embeddings as it continues the tokens; else it is refused.

    One pass reads eight tokens at once. Then the embeddings of the first four are read, and the
    others one by one: each score must be the same. Where they are so only without a cache, the
    model says so.

    Raises:
        BadRequest: they differ, or its tokenizer is that of another model.
        CorruptWeights: scores are no numbers.
    """
    _check_tokenizer(language)
    ids = torch.tensor([((language.tokens(WORDS) or [0]) * 8)[:8]], device=language.device)
    with torch.inference_mode():
        expected = language.model(ids, use_cache=False).logits[0, 3:7].float()
    if not expected.isfinite().all():
        raise CorruptWeights(
            f"The language model {language.source} computes what is no number.",
            "Restore or download its weights again, or choose another precision.",
            code="corrupt_weights",
        )
    limit = EXACT if language.precision == "float32" else NEAR
    if _distance(language, ids, expected) <= limit:
        return language
    slow = replace(
        language,
        caches=False,
        reason=f"{language.reason} It keeps no cache that serves here: its tokens come slowly.",
    )
    if _distance(slow, ids, expected) <= limit:
        return slow
    raise BadRequest(
        f"{language.source} does not continue a prefix as it continues tokens.",
        "Choose another model: this family is not causal, or it needs the tokens themselves.",
        code="unusable_model",
    )


def _check_tokenizer(language: LanguageBundle) -> None:
    marks = [i + 1 for i in (language.bos_id, *language.eos_ids[:1]) if i is not None]
    tokens = max(language.tokenizer.vocab_size, *marks, 1)
    if tokens > language.vocabulary:
        raise BadRequest(
            f"The tokenizer of {language.source} knows {tokens:,} tokens, and the model "
            f"{language.vocabulary:,}: they do not belong together.",
            "Restore its files, or choose another one.",
            code="unusable_model",
        )


def _distance(language: LanguageBundle, ids: Tensor, expected: Tensor) -> float:
    """Relative error of the scores after tokens 4 to 7, read one by one; infinite on failure."""
    runner = Runner(language)
    try:
        steps = [runner.read(language.embed(ids[:, :4]))]
        steps += [runner.step(ids[:, at]) for at in range(4, 7)]
    except UNUSABLE as error:
        if is_out_of_memory(error):
            raise
        return float("inf")
    return float(torch.linalg.norm(torch.cat(steps) - expected) / torch.linalg.norm(expected))
