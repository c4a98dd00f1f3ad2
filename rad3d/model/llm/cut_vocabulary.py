"""A language model with only the words that some texts use, for faster training on a processor.

Of 262,144 words the reports use some thousands, and scoring the others takes most of a training
step. The texts are tokenised as before: with a word, every word stays that byte-pair encoding makes
on the way to it, and every merge among those that stay. Single letters and bytes stay as well, so
that any other text can be read. What stays keeps its embedding; ``kept_tokens.json`` says which.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from rad3d.core.errors import BadRequest
from rad3d.core.files import file_sha256, readable_like
from rad3d.core.origin import ORIGIN_FILE, origin
from rad3d.model.identity import weights_hash
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.llm.models_folder import hand_on_terms

KEPT_FILE = "kept_tokens.json"
ALWAYS = frozenset(map(chr, (*range(32, 127), *range(0xA0, 0x144), *b"\n\t"))) | {"▁"}
"""Letters that stay in any case: ASCII, Latin-1 and the letters by which GPT-2's encoding writes
bytes, and the mark that stands for a space."""

_BYTE = re.compile("<0x[0-9A-F]{2}>")


def cut_vocabulary(
    language: LanguageBundle, folder: Path, texts: Sequence[str], out: Path, licence: str
) -> int:
    """Write a model that knows only the words of some texts; returns how many those are.

    Args:
        language: the whole model; it is changed in place.
        folder: its files.
        texts: that are tokenised as before.
        out: the new folder, not there yet.
        licence: of the weights.

    Raises:
        BadRequest: its tokenizer is no byte-pair encoding, or a text would be tokenised otherwise.
    """
    tokenizer = language.tokenizer
    before = [tokenizer(text)["input_ids"] for text in texts]
    state = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else {}
    if state.get("model", {}).get("type") != "BPE":
        raise BadRequest(
            f"The tokenizer of {language.source} is no byte-pair encoding.",
            "Train with the whole vocabulary.",
            code="unusable_model",
        )
    kept = _kept(state, language, {i for ids in before for i in ids})
    new = {old: i for i, old in enumerate(kept)}
    _cut_model(language.model, kept, new)
    language.model.save_pretrained(out, max_shard_size="2GB")
    tokenizer.save_pretrained(out)
    file = out / "tokenizer.json"
    file.write_text(json.dumps(_cut_tokenizer(state, new), ensure_ascii=False), encoding="utf-8")
    again = AutoTokenizer.from_pretrained(out, local_files_only=True)
    for text, ids in zip(texts, before, strict=True):
        if again(text)["input_ids"] != [new[i] for i in ids]:
            shutil.rmtree(out)
            raise BadRequest(
                f"With fewer words {language.source} would read a text in another way.",
                "Train with the whole vocabulary.",
                code="unusable_model",
            )
    readable_like(out / "config.json", *out.glob("*.safetensors"))
    (out / KEPT_FILE).write_text(json.dumps(kept), encoding="utf-8")
    hand_on_terms(folder, out, licence)
    facts = origin(folder) | {
        "cut_from": {"source": language.source, "weights_sha256": language.sha256},
        "licence": licence,
        "vocabulary": len(kept),
        "kept_sha256": file_sha256(out / KEPT_FILE),
        "weights_sha256": weights_hash(out),
    }
    (out / ORIGIN_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return len(kept)


def _kept(state: dict[str, Any], language: LanguageBundle, used: Iterable[int]) -> list[int]:
    """Ids that stay, in their order."""
    vocabulary: dict[str, int] = state["model"]["vocab"]
    words = {i: word for word, i in vocabulary.items()}
    ranks = {pair: rank for rank, pair in enumerate(_pairs(state))}
    special = (*language.eos_ids, language.bos_id, language.pad_id)
    marks = (*special, *language.tokenizer.all_special_ids)
    kept = {i for i in (*used, *marks) if i is not None}
    for i in list(kept):
        made = _way_to(words.get(i, ""), ranks)
        kept |= {vocabulary[word] for word in made if word in vocabulary}
    kept |= {i for word, i in vocabulary.items() if word in ALWAYS or _BYTE.fullmatch(word)}
    return sorted(i for i in kept if i < language.vocabulary)


def _pairs(state: dict[str, Any]) -> list[tuple[str, str]]:
    merges = (m.split(" ") if isinstance(m, str) else m for m in state["model"]["merges"])
    return [(first, second) for first, second in merges]


def _way_to(word: str, ranks: dict[tuple[str, str], int]) -> set[str]:
    """Every piece that byte-pair encoding makes on the way to a word, which is one of them."""
    pieces = list(word)
    made = set(pieces)
    while len(pieces) > 1:
        pairs = list(pairwise(pieces))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        at = pairs.index(best)
        pieces[at : at + 2] = ["".join(best)]
        made.add(pieces[at])
    return made | {word}


def _cut_tokenizer(state: dict[str, Any], new: dict[int, int]) -> dict[str, Any]:
    """The tokenizer's file with the words, merges and ids that stay."""
    model = state["model"]
    vocabulary = {word: new[i] for word, i in model["vocab"].items() if i in new}
    merges = [p for p in _pairs(state) if all(x in vocabulary for x in (*p, "".join(p)))]
    added = [each | {"id": new[each["id"]]} for each in state["added_tokens"] if each["id"] in new]
    return state | {
        "model": model | {"vocab": vocabulary, "merges": [list(pair) for pair in merges]},
        "added_tokens": added,
        "post_processor": _renumbered(state.get("post_processor"), new),
    }


def _renumbered(part: Any, new: dict[int, int]) -> Any:
    """A post-processor with the new ids of its special tokens."""
    if isinstance(part, list):
        # Such as ["</s>", 2] in processors of RoBERTa and BERT.
        if len(part) == 2 and isinstance(part[0], str) and type(part[1]) is int:
            return [part[0], new[part[1]]]
        return [_renumbered(each, new) for each in part]
    if isinstance(part, dict):
        ids = {"ids": [new[i] for i in part["ids"]]} if "ids" in part else {}
        return {k: _renumbered(v, new) for k, v in part.items()} | ids
    return part


def _cut_model(model: Any, kept: list[int], new: dict[int, int]) -> None:
    """Keep the rows of the words that stay, in input and output layer."""
    rows = torch.tensor(kept, device=model.device)
    ends = (model.get_input_embeddings, model.get_output_embeddings)
    whole = [{k: v[rows].clone() for k, v in end().state_dict().items()} for end in ends]
    model.resize_token_embeddings(len(kept))
    for end, state in zip(ends, whole, strict=True):
        end().load_state_dict(state)
    configs = (model.config, model.config.get_text_config(), model.generation_config)
    for config in {id(each): each for each in configs}.values():
        for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
            value = getattr(config, name, None)
            if isinstance(value, int):
                setattr(config, name, new.get(value))
            elif isinstance(value, list):
                setattr(config, name, [new[i] for i in value if i in new])
