"""Metrics that read reports with a language model in this process: BERTScore and RadBERT's labels.

Their weights are folders that ``transformers`` can load, below ``metrics`` in the models folder.
torch is loaded when one of them runs, and not before. Sources: Zhang et al. 2020 (arXiv
1904.09675); the RadBERT classifier of CT-RATE (arXiv 2403.17834).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rad3d.core.errors import BadRequest
from rad3d.core.labels import CT_RATE, N_LABELS
from rad3d.core.origin import origin
from rad3d.core.types import FloatArray
from rad3d.metrics.cases import Cases, Places
from rad3d.metrics.clinical import F1_MACRO, label_counts
from rad3d.metrics.measure import Measure, MetricStatus, ratio, values_and_ones, weights_digest

BATCH = 16
MAX_TOKENS = 512
LAYERS: dict[int, int] = {6: 5, 12: 9, 24: 17}
"""Depth of a model -> the layer whose embeddings are compared, as BERTScore's authors found for
the common sizes; other depths use three quarters."""


def folder_status(name: str, source: str, command: str = "") -> Callable[[Places], MetricStatus]:
    """A status that looks for a folder of weights.

    Args:
        name: of the folder.
        source: a hub id that can fill it.
        command: another way to fill it, which follows the first.
    """

    def status(places: Places) -> MetricStatus:
        folder = places.weights(name)
        if not (folder / "config.json").is_file():
            return MetricStatus(
                "needs weights",
                f"A model such as {source} is expected in {folder}.",
                f"hf download {source} --local-dir {folder}{command}",
            )
        try:
            json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return MetricStatus("broken", f"{folder / 'config.json'} is not JSON.")
        return MetricStatus()

    return status


def folder_facts(name: str) -> Callable[[Places], str]:
    """The facts about a folder of weights on which a figure made with it depends."""

    def facts(places: Places) -> str:
        folder = places.weights(name)
        known = origin(folder).get("name", "")
        parts = [f"model:{known}" if known else "", weights_digest(folder)]
        return "|".join(filter(None, (*parts, f"transformers:{version('transformers')}")))

    return facts


def _bertscore_facts(places: Places) -> str:
    """Those of the folder, and which layer is compared."""
    config = json.loads((places.weights("bertscore") / "config.json").read_text(encoding="utf-8"))
    depth = int(config.get("num_hidden_layers") or config.get("n_layers") or 0)
    layer = f"layer:{comparison_layer(depth)}/{depth}|" if depth else ""
    return f"{layer}{folder_facts('bertscore')(places)}"


def comparison_layer(depth: int) -> int:
    """The hidden layer that BERTScore compares in a model of ``depth`` layers."""
    return LAYERS.get(depth, max(1, round(0.75 * depth)))


def bertscore(references: Sequence[str], predictions: Sequence[str], folder: Path) -> FloatArray:
    """F of each pair: words matched greedily by the cosine of their embeddings.

    As in the package bert-score, words may be matched with the special tokens around a text, and
    those count for nothing themselves.

    Args:
        references, predictions: texts; a pair with an empty text scores 0.
        folder: of an encoder that ``transformers`` can load.
    """
    import torch

    texts = sorted({*references, *predictions} - {""}, key=len)
    embedded = dict(zip(texts, _embeddings(texts, folder), strict=True))
    values = []
    with torch.inference_mode():
        for true, said in zip(references, predictions, strict=True):
            a, b = embedded.get(true), embedded.get(said)
            if a is None or b is None or not a.words.any() or not b.words.any():
                values.append(0.0)
                continue
            cosines = a.vectors @ b.vectors.T
            recall = float(cosines.max(dim=1).values[a.words].mean())
            precision = float(cosines.max(dim=0).values[b.words].mean())
            total = precision + recall
            values.append(2 * precision * recall / total if total > 0 else 0.0)
    return np.array(values, dtype=np.float64)


class _Embedded(NamedTuple):
    """A text: (tokens, H) unit vectors, and which of them are words and no special tokens."""

    vectors: Any
    words: Any


def _embeddings(texts: Sequence[str], folder: Path) -> list[Any]:
    """Unit embeddings of each text."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = _load(folder, AutoTokenizer, AutoModel)
    layer = comparison_layer(int(model.config.num_hidden_layers))
    embeddings: list[Any] = []
    with torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            inputs = _tokens(tokenizer, model, texts[start : start + BATCH])
            special = inputs.pop("special_tokens_mask").bool()
            hidden = model(**inputs, output_hidden_states=True).hidden_states[layer].float()
            read = inputs["attention_mask"].bool()
            embeddings += [
                _Embedded(torch.nn.functional.normalize(row[mask], dim=-1), ~marks[mask])
                for row, mask, marks in zip(hidden, read, special, strict=True)
            ]
    return embeddings


def radbert_labels(texts: Sequence[str], folder: Path) -> FloatArray:
    """(N, 18) labels of CT-RATE in their order, present where the classifier says more than 0.5."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer, model = _load(folder, AutoTokenizer, AutoModelForSequenceClassification)
    if model.config.num_labels != N_LABELS:
        raise BadRequest(
            f"The classifier in {folder} has {model.config.num_labels} labels, not {N_LABELS}.",
            code="wrong_classifier",
        )
    rows = []
    with torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            inputs = _tokens(tokenizer, model, texts[start : start + BATCH])
            inputs.pop("special_tokens_mask")
            rows.append((model(**inputs).logits > 0).double().numpy())
    labels: FloatArray = np.concatenate(rows) if rows else np.empty((0, N_LABELS))
    # An empty report states nothing, whatever the classifier makes of it.
    labels[[not text.strip() for text in texts]] = 0
    return labels


def _load(folder: Path, tokenizer_class: Any, model_class: Any) -> tuple[Any, Any]:
    """Tokenizer and model of a folder, for inference; nothing is fetched."""
    try:
        tokenizer = tokenizer_class.from_pretrained(folder, local_files_only=True)
        model = model_class.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise BadRequest(
            f"The model in {folder} does not load: {first}",
            "Download it again.",
            code="metric_failed",
        ) from error
    return tokenizer, model.eval()


def _tokens(tokenizer: Any, model: Any, texts: Sequence[str]) -> dict[str, Any]:
    """A padded batch, cut at what the model has positions for."""
    positions = getattr(model.config, "max_position_embeddings", None) or MAX_TOKENS
    # RoBERTa and its like keep two positions for themselves.
    longest = min(MAX_TOKENS, positions - (2 if positions % 8 else 0))
    return dict(
        tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=longest,
            return_tensors="pt",
            return_special_tokens_mask=True,
        )
    )


def _collect_bertscore(cases: Cases) -> FloatArray:
    folder = cases.places.weights("bertscore")
    return values_and_ones(bertscore(cases.references, cases.texts, folder))


def _collect_radbert(cases: Cases) -> FloatArray:
    """Known labels are the truth; where only reports are known, the classifier reads both."""
    CT_RATE.require_same(cases.label_set, "RadBERT", "these cases")
    folder = cases.places.weights("radbert-ct")
    known = all(sample.labels is not None for sample in cases.samples)
    truth = cases.truth if known else radbert_labels(cases.references, folder).astype(np.int64)
    return label_counts(truth, radbert_labels(cases.texts, folder).astype(np.int64))


BERTSCORE = Measure(
    "bertscore",
    _collect_bertscore,
    ratio,
    lambda: "bertscore|f|idf:no|rescaled:no|mean of reports",
    folder_status(
        "bertscore",
        "distilbert/distilbert-base-uncased",
        ", or with any encoder: rad3d convert --bertscore PACKAGE|FOLDER",
    ),
    _bertscore_facts,
)
RADBERT_F1 = Measure(
    "radbert",
    _collect_radbert,
    F1_MACRO.combine,
    lambda: f"f1|macro|labels:{N_LABELS}|radbert-ct|threshold:0.5",
    folder_status("radbert-ct", "IAMJB/RadBERT-CT"),
    folder_facts("radbert-ct"),
)
