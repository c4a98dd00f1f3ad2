"""Word overlap, profile ``hf``: BLEU and ROUGE as the Hugging Face metrics compute them, METEOR.

BLEU agrees with sacrebleu without smoothing (tokenizer 13a, cased), ROUGE with the package
rouge_score without its stemmer, METEOR with NLTK's, whose synonym stage is left out: it needs a
download of WordNet. Sources: Papineni et al. 2002, Lin 2004, Banerjee and Lavie 2005.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import version

import numpy as np

from rad3d import __version__
from rad3d.core.types import FloatArray
from rad3d.metrics.bootstrap import Combine
from rad3d.metrics.cases import Cases
from rad3d.metrics.measure import Measure, ratio, values_and_ones

ORDERS = 4
"""Longest n-grams of BLEU."""

Tokens = Sequence[str]

# The rules of mteval-v13a, the tokenizer of WMT: ASCII punctuation stands alone, full stops and
# commas only where no digit is on that side, and hyphens only after a digit.
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_PUNCTUATION = re.compile(r"([ !\"#$%&()*+/:;<=>?@\[\\\]^_`{|}~])")
_STOP_AFTER_NO_DIGIT = re.compile(r"([^0-9])([.,])")
_STOP_BEFORE_NO_DIGIT = re.compile(r"([.,])([^0-9])")
_HYPHEN_AFTER_DIGIT = re.compile(r"([0-9])(-)")
_ALPHANUMERIC = re.compile(r"[a-z0-9]+")
_ENDLESS_WORD = re.compile(r"(\S{200})\S+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def tokens_13a(text: str) -> list[str]:
    """Tokens as in mteval-v13a; case is kept."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    text = _PUNCTUATION.sub(r" \1 ", f" {text} ")
    text = _STOP_AFTER_NO_DIGIT.sub(r"\1 \2 ", text)
    text = _STOP_BEFORE_NO_DIGIT.sub(r" \1 \2", text)
    return _HYPHEN_AFTER_DIGIT.sub(r"\1 \2 ", text).split()


def tokens_rouge(text: str) -> list[str]:
    """Runs of ASCII letters and digits, in lower case."""
    return _ALPHANUMERIC.findall(text.lower())


def ngrams(tokens: Tokens, n: int) -> Counter[tuple[str, ...]]:
    """Count each n-gram."""
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def bleu_row(reference: Tokens, prediction: Tokens) -> list[float]:
    """Statistics of BLEU: clipped hits and n-grams of each order, then the two lengths."""
    hits, totals = [], []
    for n in range(1, ORDERS + 1):
        said = ngrams(prediction, n)
        hits.append(sum((said & ngrams(reference, n)).values()))
        totals.append(max(len(prediction) - n + 1, 0))
    return [*hits, *totals, len(prediction), len(reference)]


def bleu(order: int) -> Combine:
    """Corpus BLEU up to n-grams of ``order``, without smoothing: 0 where an order has no hit."""

    def combine(sums: FloatArray) -> FloatArray:
        hits, totals = sums[..., :order], sums[..., ORDERS : ORDERS + order]
        said, true = sums[..., -2], sums[..., -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(np.where(totals > 0, hits / totals, 0.0)).mean(axis=-1)
            brevity = np.where(said < true, np.exp(1 - true / said), 1.0)
            return np.where(said > 0, np.exp(logs) * brevity, 0.0)

    return combine


def bleu_mean(sums: FloatArray) -> FloatArray:
    """Mean of BLEU-1 to BLEU-4."""
    scores = [bleu(order)(sums) for order in range(1, ORDERS + 1)]
    mean: FloatArray = np.mean(scores, axis=0)
    return mean


def f_measure(hits: float, true: int, said: int) -> float:
    """Harmonic mean of recall and precision, 0 where nothing is hit."""
    return 2 * hits / (true + said) if hits else 0.0


def rouge_n(reference: Tokens, prediction: Tokens, n: int) -> float:
    """F-measure of n-grams."""
    true, said = ngrams(reference, n), ngrams(prediction, n)
    return f_measure(sum((true & said).values()), true.total(), said.total())


def common_subsequence(a: Tokens, b: Tokens) -> int:
    """Length of the longest common subsequence.

    Bit-parallel (Hyyrö 2004): one big integer holds a row of the table, so that reports of a
    hundred words take microseconds.
    """
    places: dict[str, int] = {}
    for i, token in enumerate(a):
        places[token] = places.get(token, 0) | (1 << i)
    full = (1 << len(a)) - 1
    row = full
    for token in b:
        matched = row & places.get(token, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(a) - row.bit_count()


def rouge_l(reference: Tokens, prediction: Tokens) -> float:
    """F-measure of the longest common subsequence."""
    hits = common_subsequence(reference, prediction)
    return f_measure(hits, len(reference), len(prediction))


class _NoSynonyms:
    """Stands in for WordNet, so that METEOR matches words and stems only."""

    def synsets(self, word: str) -> tuple[()]:
        return ()


def tokens_treebank(text: str) -> list[str]:
    """NLTK's Treebank tokens of each sentence; sentences end at .!? and at line breaks."""
    # NLTK takes seconds for "words" of thousands of letters, which are none.
    text = _ENDLESS_WORD.sub(r"\1", text)
    return [token for part in _SENTENCE_END.split(text) for token in _treebank(part)]


@lru_cache(maxsize=20_000)
def _treebank(sentence: str) -> tuple[str, ...]:
    """Tokenise one sentence; results are cached, because reports repeat their sentences."""
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return tuple(NLTKWordTokenizer().tokenize(sentence))


def meteor_scores(references: Sequence[str], predictions: Sequence[str]) -> FloatArray:
    """METEOR of each pair with NLTK's defaults (alpha 0.9, beta 3, gamma 0.5)."""
    from nltk.stem.porter import PorterStemmer
    from nltk.translate.meteor_score import single_meteor_score

    class Stemmer(PorterStemmer):  # type: ignore[misc]
        """A stemmer with a cache for the few thousand words of which reports are made."""

        stem = lru_cache(maxsize=100_000)(PorterStemmer.stem)

    stemmer, wordnet = Stemmer(), _NoSynonyms()
    return np.array(
        [
            single_meteor_score(
                tokens_treebank(true), tokens_treebank(said), stemmer=stemmer, wordnet=wordnet
            )
            for true, said in zip(references, predictions, strict=True)
        ],
        dtype=np.float64,
    )


def _collect_bleu(cases: Cases) -> FloatArray:
    pairs = zip(cases.references, cases.texts, strict=True)
    rows = [bleu_row(tokens_13a(true), tokens_13a(said)) for true, said in pairs]
    return np.array(rows, dtype=np.float64)


def _collect_rouge(score: Callable[[Tokens, Tokens], float]) -> Callable[[Cases], FloatArray]:
    def collect(cases: Cases) -> FloatArray:
        pairs = zip(cases.references, cases.texts, strict=True)
        values = [score(tokens_rouge(true), tokens_rouge(said)) for true, said in pairs]
        return values_and_ones(np.array(values))

    return collect


def _collect_meteor(cases: Cases) -> FloatArray:
    return values_and_ones(meteor_scores(cases.references, cases.texts))


def _bleu_signature(order: str) -> Callable[[], str]:
    return lambda: f"bleu|n:{order}|tok:13a|case:mixed|smooth:none|corpus|rad3d:{__version__}"


def _rouge_signature(kind: str) -> Callable[[], str]:
    return lambda: f"rouge{kind}|f|stemmer:no|tok:[a-z0-9]+|mean of reports|rad3d:{__version__}"


def _meteor_signature() -> str:
    return (
        "meteor|alpha:0.9|beta:3|gamma:0.5|stemmer:porter|wordnet:no|tok:treebank|mean of reports"
        f"|nltk:{version('nltk')}"
    )


BLEU_1, BLEU_2, BLEU_3, BLEU_4 = (
    Measure("bleu", _collect_bleu, bleu(n), _bleu_signature(str(n))) for n in range(1, ORDERS + 1)
)
BLEU_MEAN = Measure("bleu", _collect_bleu, bleu_mean, _bleu_signature("mean of 1 to 4"))
ROUGE_1 = Measure(
    "rouge1", _collect_rouge(lambda a, b: rouge_n(a, b, 1)), ratio, _rouge_signature("1")
)
ROUGE_2 = Measure(
    "rouge2", _collect_rouge(lambda a, b: rouge_n(a, b, 2)), ratio, _rouge_signature("2")
)
ROUGE_L = Measure("rougeL", _collect_rouge(rouge_l), ratio, _rouge_signature("L"))
METEOR = Measure("meteor", _collect_meteor, ratio, _meteor_signature)
