"""Decoding from embeddings: greedy, sampling and beams, one token at a time, stopped at once.

The loops are written out rather than left to ``generate`` because each token is handed over as it
is made, a cancelled run stops before its next token, and every run samples from its own generator:
the same seed gives the same text, whatever else runs at the same time. The rules for temperature,
top-p, repetition and n-grams are those of transformers.

Rows of a batch whose conditionings differ in length are padded on the left, with attention masks
and positions that leave the padding out; a family that takes no positions gets those of equal
length together.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from rad3d.core.errors import BadRequest
from rad3d.core.types import FinishReason, GenerationOptions
from rad3d.model.llm.language import LanguageBundle


@dataclass(frozen=True)
class Written:
    """The tokens written so far for one row of a batch.

    Attributes:
        ids: generated tokens, without the end token. With beams, those of the best hypothesis.
        finish: why the row ended, or None while it goes on.
    """

    ids: tuple[int, ...]
    finish: FinishReason | None = None


class Runner:
    """A language model that reads on, with its cache of what it has read.

    Where the family keeps no cache that serves here, everything is read again for each token.

    Args:
        language: the model.
        padding: (B,) how many of the first positions of each row are padding, for a model that
            :func:`takes_padding`.
    """

    def __init__(self, language: LanguageBundle, padding: Tensor | None = None) -> None:
        self._language = language
        self._padding, self._n_read = padding, 0
        self._cache = DynamicCache(config=language.model.config) if language.caches else None
        taken = inspect.signature(language.model.forward).parameters
        # State-space models (Mamba) drop a cache under the other name, and write nonsense.
        self._name = "cache_params" if "cache_params" in taken else "past_key_values"
        self._read: Tensor | None = None

    @torch.inference_mode()
    def read(self, embeds: Tensor) -> Tensor:
        """(B, N, H) embeddings that follow -> (B, V) float32 scores of the next token."""
        inputs: dict[str, Any] = {"use_cache": self._cache is not None, self._name: self._cache}
        if self._cache is None:
            embeds = embeds if self._read is None else torch.cat((self._read, embeds), dim=1)
            self._read = embeds
        if self._padding is not None:
            places = torch.arange(self._n_read + embeds.shape[1], device=embeds.device)
            positions = places - self._padding[:, None]
            inputs["attention_mask"] = (positions >= 0).long()
            inputs["position_ids"] = positions[:, self._n_read :].clamp(min=0)
            self._n_read = len(places)
        output = self._language.model(inputs_embeds=embeds, logits_to_keep=1, **inputs)
        return output.logits[:, -1].float()

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """(B,) tokens -> (B, V) float32 scores of the next one."""
        return self.read(self._language.embed(tokens[:, None]))

    @torch.inference_mode()
    def select(self, rows: Tensor) -> None:
        """Go on with these rows, in this order; a row may be there several times."""
        if self._padding is not None:
            self._padding = self._padding[rows]
        if self._cache is not None:
            self._cache.reorder_cache(cast(torch.LongTensor, rows))
        elif self._read is not None:
            self._read = self._read[rows]

    def cached(self) -> Iterator[Tensor]:
        """Every tensor of the cache."""
        layers = [] if self._cache is None else self._cache.layers
        for value in (value for layer in layers for value in vars(layer).values()):
            parts = value.values() if isinstance(value, dict) else [value]
            yield from (part for part in parts if isinstance(part, Tensor))


def takes_padding(language: LanguageBundle) -> bool:
    """Whether rows of different length can be read together: masks and positions are taken."""
    taken = inspect.signature(language.model.forward).parameters
    return language.caches and {"attention_mask", "position_ids", "past_key_values"} <= set(taken)


def token_room(language: LanguageBundle, conditioning: int, options: GenerationOptions) -> int:
    """Tokens that may be written; raises :class:`BadRequest` where the context is full already."""
    room = min(options.max_new_tokens, language.context - conditioning)
    if room < 1:
        raise BadRequest(
            f"{language.source} reads at most {language.context} tokens; prefix and prompt "
            f"already take {conditioning}.",
            "Use a shorter prompt or another language model.",
            code="context_full",
        )
    return room


def decode(
    language: LanguageBundle,
    embeds: Tensor,
    options: GenerationOptions,
    cancel: threading.Event | None = None,
) -> Iterator[Written]:
    """Write one text; yields after every token, the last item has a finish reason.

    Args:
        language: the model.
        embeds: (1, N, H) conditioning.
        options: how to write.
        cancel: once set, no further token is computed.
    """
    for (written,) in decode_rows(language, embeds, options, cancel):
        yield written


def decode_batch(
    language: LanguageBundle,
    embeds: Sequence[Tensor] | Tensor,
    options: GenerationOptions,
    cancel: threading.Event | None = None,
) -> list[Written]:
    """Write one text for each (N, H) conditioning; see :func:`decode_rows`."""
    rows: list[Written] = []
    for rows in decode_rows(language, embeds, options, cancel):  # noqa: B007 - the last is wanted
        pass
    return rows


def decode_rows(
    language: LanguageBundle,
    embeds: Sequence[Tensor] | Tensor,
    options: GenerationOptions,
    cancel: threading.Event | None = None,
) -> Iterator[list[Written]]:
    """Write one text for each (N, H) conditioning; the same texts as one at a time.

    Yields the state of all rows after every token. Rows that are finished leave the batch. Each row
    samples from a generator of its own with the seed of the options, and beams are searched row by
    row.
    """
    cancel = cancel or threading.Event()
    state = [Written(()) for _ in embeds]
    for places in _batches(language, embeds, options):
        write = _beams if options.strategy == "beam" else _rows
        for rows in write(language, [embeds[place] for place in places], options, cancel):
            for place, written in zip(places, rows, strict=True):
                state[place] = written
            yield list(state)


def _batches(
    language: LanguageBundle, embeds: Sequence[Tensor] | Tensor, options: GenerationOptions
) -> Iterator[list[int]]:
    """The rows that are written together: all, where the strategy and the family allow it."""
    if options.strategy == "beam":
        yield from ([row] for row in range(len(embeds)))
    elif takes_padding(language):
        yield list(range(len(embeds)))
    else:
        for length in dict.fromkeys(len(each) for each in embeds):
            yield [row for row, each in enumerate(embeds) if len(each) == length]


def _processors(options: GenerationOptions) -> LogitsProcessorList:
    """Repetition control, in the order of transformers."""
    processors = LogitsProcessorList()
    if options.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
    if options.no_repeat_ngram:
        processors.append(NoRepeatNGramLogitsProcessor(options.no_repeat_ngram))
    return processors


def _warpers(options: GenerationOptions) -> LogitsProcessorList:
    """The processors that shape the distribution to sample from."""
    warpers = LogitsProcessorList()
    if options.strategy == "sample":
        if options.temperature != 1.0:
            warpers.append(TemperatureLogitsWarper(options.temperature))
        if options.top_p < 1.0:
            warpers.append(TopPLogitsWarper(options.top_p))
    return warpers


class _Chooser:
    """Picks the next token of each row."""

    def __init__(self, options: GenerationOptions, rows: int) -> None:
        self._rules = LogitsProcessorList([*_processors(options), *_warpers(options)])
        self._generators: list[torch.Generator] | None = None
        if options.strategy == "sample":
            self._generators = [torch.Generator().manual_seed(options.seed) for _ in range(rows)]

    @torch.inference_mode()
    def __call__(self, scores: Tensor, written: Tensor, rows: list[int]) -> list[int]:
        """(B, V) scores and (B, t) tokens written -> the next token of each row."""
        if self._rules:
            scores = self._rules(cast(torch.LongTensor, written), scores)
        if self._generators is None:
            return scores.argmax(dim=-1).tolist()
        odds = torch.softmax(scores, dim=-1).cpu()
        return [
            int(torch.multinomial(odds[at], 1, generator=self._generators[row]))
            for at, row in enumerate(rows)
        ]


def _rows(
    language: LanguageBundle,
    embeds: Sequence[Tensor],
    options: GenerationOptions,
    cancel: threading.Event,
) -> Iterator[list[Written]]:
    """Greedy and sampling for every row; yields the state of all rows after every token."""
    rooms = [token_room(language, len(each), options) for each in embeds]
    ends = frozenset(language.eos_ids)
    state = [Written(()) for _ in embeds]
    active = list(range(len(state)))
    whole, padding = _padded(embeds)
    written = torch.empty((len(state), 0), dtype=torch.long, device=whole.device)
    choose, runner = _Chooser(options, len(state)), Runner(language, padding)
    scores: Tensor | None = None
    for count in range(1, max(rooms) + 1):
        if cancel.is_set():
            for row in active:
                state[row] = Written(state[row].ids, "cancelled")
            break
        scores = runner.read(whole) if scores is None else runner.step(written[:, -1])
        tokens = choose(scores, written, active)
        for row, token in zip(active, tokens, strict=True):
            if token in ends:
                state[row] = Written(state[row].ids, "end")
            else:
                finish: FinishReason | None = "length" if count == rooms[row] else None
                state[row] = Written((*state[row].ids, token), finish)
        written = torch.cat((written, torch.tensor(tokens, device=written.device)[:, None]), 1)
        kept = [at for at, row in enumerate(active) if state[row].finish is None]
        if not kept:
            break
        yield list(state)
        if len(kept) < len(active):
            rows = torch.tensor(kept, device=written.device)
            runner.select(rows)
            written, active = written[rows], [active[at] for at in kept]
    yield list(state)


def _padded(embeds: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """(B, N, H) padded on the left, and (B,) how much of it is padding; None where none is."""
    lengths = torch.tensor([len(each) for each in embeds], device=embeds[0].device)
    whole = pad_sequence(list(embeds), batch_first=True, padding_side="left")
    return whole, None if (lengths == lengths[0]).all() else lengths.max() - lengths


@dataclass(frozen=True)
class _Finished:
    score: float
    ids: tuple[int, ...]


def _beams(
    language: LanguageBundle,
    embeds: Sequence[Tensor],
    options: GenerationOptions,
    cancel: threading.Event,
) -> Iterator[list[Written]]:
    """Beam search as in transformers (length penalty 1, its stopping rule for early_stopping off).

    Yields the best open hypothesis of the only row after every token, and the best finished one at
    the end.
    """
    (row,) = embeds
    room = token_room(language, len(row), options)
    width, rules, runner = options.beams, _processors(options), Runner(language)
    ends = frozenset(language.eos_ids)
    device = row.device
    written = torch.empty((width, 0), dtype=torch.long, device=device)
    totals = torch.full((width,), -1e9, device=device)
    totals[0] = 0.0  # all beams are the same at first: only one of them may be continued
    done: list[_Finished] = []
    for count in range(1, room + 1):
        if cancel.is_set():
            yield [Written(tuple(written[0].tolist()), "cancelled")]
            return
        if count == 1:
            scores = runner.read(row[None]).expand(width, -1)
            runner.select(torch.zeros(width, dtype=torch.long, device=device))
        else:
            scores = runner.step(written[:, -1])
        candidates = _candidates(scores, written, totals, rules)
        open_beams: list[tuple[float, int, int]] = []
        for rank, (total, beam, token) in enumerate(candidates):
            ended = token in ends
            if (ended or count == room) and rank < width:
                ids = tuple(written[beam].tolist()) + (() if ended else (token,))
                done.append(_Finished(total / count, ids))
            if not ended:
                open_beams.append((total, beam, token))
        done = sorted(done, key=lambda item: -item.score)[:width]
        open_beams = open_beams[:width]
        if count == room or len(open_beams) < width:
            break
        if len(done) == width and open_beams[0][0] / count <= done[-1].score:
            break
        parents = torch.tensor([beam for _, beam, _ in open_beams], device=device)
        runner.select(parents)
        tokens = torch.tensor([token for _, _, token in open_beams], device=device)
        totals = torch.tensor([total for total, _, _ in open_beams], device=device)
        written = torch.cat((written[parents], tokens[:, None]), dim=1)
        yield [Written(tuple(written[0].tolist()))]
    best = done[0]
    yield [Written(best.ids, "length" if len(best.ids) == room else "end")]


@torch.inference_mode()
def _candidates(
    scores: Tensor, written: Tensor, totals: Tensor, rules: LogitsProcessorList
) -> list[tuple[float, int, int]]:
    """The 2 x beams best continuations: (sum of log-probabilities, beam, token), best first."""
    odds = torch.log_softmax(scores, dim=-1)
    if rules:
        odds = rules(cast(torch.LongTensor, written), odds)
    whole = totals[:, None] + odds
    best, places = whole.flatten().topk(min(2 * len(totals), whole.numel()))
    vocabulary = whole.shape[1]
    return [
        (total, place // vocabulary, place % vocabulary)
        for total, place in zip(best.tolist(), places.tolist(), strict=True)
    ]
