"""Tokenizer and base language models, pretrained on the synthetic radiology corpus.

A base model must be able to read its context before it is frozen. The corpus is therefore rich in
text whose continuation depends on what stands before it, and :func:`reading_score` measures whether
a model writes the report that a textual summary asks for.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from rad3d.reports.labeller import label_report
from rad3d.synthetic.corpus import Example, pretraining_examples
from rad3d.synthetic.grammar import write_summary
from rad3d.synthetic.truth import draw_truth
from rad3d.train.loop import LoopConfig, Progress, fit, prefer_eager_attention

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
READING_SEEDS = 20_000_000
"""First seed of the truths on which reading is measured; no training text uses seeds from here."""


@dataclass(frozen=True)
class LanguageModelShape:
    """Size of a base model (LLaMA architecture, tied embeddings)."""

    width: int
    layers: int
    heads: int
    inner: int

    @property
    def parameters(self) -> int:
        """Parameters in the transformer layers, excluding embeddings and norms."""
        return self.layers * (4 * self.width**2 + 3 * self.width * self.inner)


def build_tokenizer(directory: Path, vocabulary: int = 2048, n: int = 20_000) -> Any:
    """Train and save a byte-level BPE tokenizer on ``n`` corpus examples; digits stay single."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (e.context + e.target for e in pretraining_examples(seed=1, n=n, stage="varied"))
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, bos_token=BOS, eos_token=EOS, model_max_length=1024
    )
    tokenizer.save_pretrained(directory)
    return tokenizer


def build_model(shape: LanguageModelShape, tokenizer: Any, seed: int) -> Any:
    """A randomly initialised causal language model of that shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.inner,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            initializer_range=0.02,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def collate(
    tokenizer: Any, examples: list[Example], context_weight: float = 0.1
) -> dict[str, Tensor]:
    """Examples -> ``input_ids``, ``labels`` and ``weights`` (B, T), right padded.

    The loss on the context is weighted down: it teaches the language, the target teaches reading.
    """
    contexts = tokenizer([e.context for e in examples], add_special_tokens=False)["input_ids"]
    targets = tokenizer([e.target for e in examples], add_special_tokens=False)["input_ids"]
    rows = [
        [tokenizer.bos_token_id, *c, *t, tokenizer.eos_token_id]
        for c, t in zip(contexts, targets, strict=True)
    ]
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    weights = torch.zeros(len(rows), length)
    for i, (row, context) in enumerate(zip(rows, contexts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        weights[i, : len(row)] = 1.0
        weights[i, : len(context) + 1] = context_weight
    return {"input_ids": ids, "weights": weights}


def _language_loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits[:, :-1]
    losses = nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), batch["input_ids"][:, 1:].flatten(), reduction="none"
    )
    weights = batch["weights"][:, 1:].flatten()
    return {"loss": (losses * weights).sum() / weights.sum()}


@dataclass(frozen=True)
class PretrainConfig:
    """Pretraining of one base model.

    Attributes:
        shape: size of the model.
        loop: schedule.
        batch_size: examples per step.
        ordered: share of the steps that use the ordered stage of the corpus, before the varied one.
    """

    shape: LanguageModelShape
    loop: LoopConfig
    batch_size: int = 48
    ordered: float = 0.5


@lru_cache(maxsize=4)
def _chunk(seed: int, stage: str, size: int) -> tuple[Example, ...]:
    return tuple(pretraining_examples(seed=seed, n=size, stage=stage))


def _examples(config: PretrainConfig, step: int) -> list[Example]:
    """The examples of a step: drawn in chunks of eight batches, sorted by length within a chunk."""
    per_chunk = 8
    chunk, row = divmod(step, per_chunk)
    stage = "ordered" if step < config.ordered * config.loop.steps else "varied"
    pool = sorted(
        _chunk(1000 + chunk, stage, per_chunk * config.batch_size),
        key=lambda e: len(e.context) + len(e.target),
    )
    order = np.random.default_rng([chunk, 7]).permutation(per_chunk)
    start = int(order[row]) * config.batch_size
    return list(pool[start : start + config.batch_size])


def pretrain(
    config: PretrainConfig,
    tokenizer: Any,
    run: Path,
    output: Path,
    name: str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Pretrain one base model and save it to ``output`` in the standard layout (float16).

    Returns the training facts, reading score included; they are also in ``training.json``.
    """
    model = build_model(config.shape, tokenizer, config.loop.seed)
    prefer_eager_attention(model)
    facts = fit(
        model,
        lambda step: collate(tokenizer, _examples(config, step)),
        _language_loss,
        config.loop,
        run,
        name=name,
        facts={"shape": asdict(config.shape), "batch_size": config.batch_size},
        progress=progress,
    )
    facts |= {"parameters": sum(p.numel() for p in model.parameters())}
    output.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(output, max_shard_size="9MB")
    tokenizer.save_pretrained(output)
    facts |= reading_score(model.float(), tokenizer)
    (output / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    return facts


@torch.inference_mode()
def reading_score(model: Any, tokenizer: Any, n: int = 100) -> dict[str, Any]:
    """Micro and macro F1 of reports written from textual summaries of ``n`` unseen truths."""
    from rad3d.metrics.clinical import label_counts, macro_f1, micro_f1

    model.eval()
    truths = [draw_truth(READING_SEEDS + i, "in") for i in range(n)]
    prompts = [
        f"{BOS}Summary: {write_summary(t.findings, seed=t.seed, order='fixed')}\nReport:"
        for t in truths
    ]
    texts: list[str] = []
    tokenizer.padding_side = "left"
    for start in range(0, n, 25):
        batch = tokenizer(
            prompts[start : start + 25],
            return_tensors="pt",
            padding=True,
            add_special_tokens=False,
            return_token_type_ids=False,
        )
        output = model.generate(**batch, max_new_tokens=300, do_sample=False)
        written = output[:, batch["input_ids"].shape[1] :]
        texts += tokenizer.batch_decode(written, skip_special_tokens=True)
    truth = np.array([t.labels() for t in truths])
    predicted = np.array([label_report(text) for text in texts])
    counts = label_counts(truth, predicted).sum(axis=0)
    return cast(
        dict[str, Any],
        {
            "reading_micro_f1": round(float(micro_f1(counts)), 4),
            "reading_macro_f1": round(float(macro_f1(counts)), 4),
            "reading_n": n,
        },
    )
