"""Word overlap, profile ``coco``: tokens and formulas of pycocoevalcap, as captioning papers use.

Optional: needs the package (its two Java programs) and a Java runtime. Values differ by up to a
factor of two from profile ``hf`` on the same texts, so the two never share a column.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from rad3d.core.errors import BadRequest
from rad3d.core.types import FloatArray
from rad3d.metrics.cases import Cases, Places
from rad3d.metrics.measure import Measure, MetricStatus, ratio, values_and_ones
from rad3d.metrics.overlap import Tokens, bleu, bleu_mean, bleu_row, common_subsequence

PACKAGE = "pycocoevalcap"
TOKENIZER_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
METEOR_JAR = "meteor/meteor-1.5.jar"
BETA = 1.2
"""Weight of recall in coco's ROUGE-L."""

ALPHA, METEOR_BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGE_WEIGHTS = (1.0, 0.6, 0.8, 0.6)
"""METEOR 1.5's parameters for English (Denkowski and Lavie 2014)."""

_METEOR_COLUMNS = 23
_PUNCTUATION = frozenset(
    ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--",
     "...", ";")
)  # fmt: skip
_TIMEOUT_S = 600


def status(places: Places = Places()) -> MetricStatus:  # noqa: B008 (frozen)
    """Return ready if both Java programs and a Java runtime are there."""
    if _jar(TOKENIZER_JAR) is None or _jar(METEOR_JAR) is None:
        return MetricStatus(
            "needs package",
            f"{PACKAGE}, which brings the Java programs, is not installed.",
            f"pip install --no-deps {PACKAGE}==1.2",
        )
    if shutil.which("java") is None:
        return MetricStatus("needs package", "There is no Java runtime on the path.")
    return MetricStatus()


def _jar(name: str) -> Path | None:
    """A file of the package, without importing it."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(place) / name).is_file():
            return path
    return None


def _java(jar: str, arguments: Sequence[str], given: str) -> list[str]:
    """Return a Java program's answers to lines; raises BadRequest where it fails."""
    path = _jar(jar)
    command = ["java", "-Xmx2G", *(str(path) if word == "{jar}" else word for word in arguments)]
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:]
        raise BadRequest(
            f"{Path(jar).name} failed: {' '.join(last)}.", "Try --profile hf.", code="java_failed"
        )
    return done.stdout.splitlines()


def tokens_ptb(texts: Sequence[str]) -> list[list[str]]:
    """Penn Treebank tokens of each text in lower case, without punctuation."""
    lines = [" ".join(text.split()) for text in texts]
    filled = [line for line in lines if line]
    arguments = ("-cp", "{jar}", "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines",
                 "-lowerCase")  # fmt: skip
    answers = _java(TOKENIZER_JAR, arguments, "\n".join(filled) + "\n") if filled else []
    if len(answers) != len(filled):
        raise BadRequest("The tokenizer lost a line.", "Try --profile hf.", code="java_failed")
    answer = iter(answers)
    return [
        [word for word in next(answer).split(" ") if word not in _PUNCTUATION] if line else []
        for line in lines
    ]


def meteor_rows(references: Sequence[Tokens], predictions: Sequence[Tokens]) -> FloatArray:
    """(N, 23) statistics of METEOR 1.5 of each pair of token lists; zeros where one is empty.

    They are lengths and function words of prediction and reference, then for each of the four
    stages (word, stem, synonym, paraphrase) matched content and function words of either, then
    chunks and matched words of either.
    """
    pairs = list(zip(references, predictions, strict=True))
    rows = np.zeros((len(pairs), _METEOR_COLUMNS))
    asked = [i for i, (true, said) in enumerate(pairs) if true and said]
    for i, (true, said) in enumerate(pairs):
        rows[i, :2] = len(said), len(true)
    if asked:
        questions = "".join(
            f"SCORE ||| {' '.join(pairs[i][0])} ||| {' '.join(pairs[i][1])}\n" for i in asked
        )
        arguments = ("-jar", "{jar}", "-", "-", "-stdio", "-l", "en", "-norm")
        answers = _java(METEOR_JAR, arguments, questions)
        rows[asked] = [[float(number) for number in line.split()] for line in answers]
    # METEOR's program does not count the one chunk of a pair of equal texts.
    perfect = (rows[:, 20] == 1) & (rows[:, 0:2] == rows[:, 21:23]).all(axis=1)
    rows[perfect, 20] = 0
    return rows


def meteor(sums: FloatArray) -> FloatArray:
    """METEOR 1.5 of summed :func:`meteor_rows`, as its program computes it for a whole set."""
    lengths = sums[..., 0:2]
    function_words = sums[..., 2:4]
    stages = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 2, 2)  # stage, content or not, text
    chunks, matched = sums[..., 20], sums[..., 21:23].mean(axis=-1)
    kinds = DELTA * stages[..., 0, :] + (1 - DELTA) * stages[..., 1, :]
    weighted = np.tensordot(kinds, STAGE_WEIGHTS, axes=(-2, 0))
    total = DELTA * (lengths - function_words) + (1 - DELTA) * function_words
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.moveaxis(weighted / total, -1, 0)
        f_mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
        score = f_mean * (1 - GAMMA * (chunks / matched) ** METEOR_BETA)
    return np.where(matched > 0, score, 0.0)


def rouge_l(reference: Tokens, prediction: Tokens) -> float:
    """F-measure with :data:`BETA` of the longest common subsequence."""
    hits = common_subsequence(reference, prediction)
    if not hits:
        return 0.0
    recall, precision = hits / len(reference), hits / len(prediction)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _tokens(cases: Cases) -> list[tuple[list[str], list[str]]]:
    split = tokens_ptb([*cases.references, *cases.texts])
    return list(zip(split[: cases.n], split[cases.n :], strict=True))


def _collect_bleu(cases: Cases) -> FloatArray:
    return np.array([bleu_row(true, said) for true, said in _tokens(cases)], dtype=np.float64)


def _collect_rouge(cases: Cases) -> FloatArray:
    return values_and_ones(np.array([rouge_l(true, said) for true, said in _tokens(cases)]))


def _collect_meteor(cases: Cases) -> FloatArray:
    pairs = _tokens(cases)
    return meteor_rows([a for a, _ in pairs], [b for _, b in pairs])


def _signature(name: str) -> Callable[[], str]:
    def signature() -> str:
        try:
            installed = version(PACKAGE)
        except PackageNotFoundError:
            installed = "none"
        return f"{name}|tok:ptb-3.4.1|case:lower|punctuation:no|{PACKAGE}:{installed}"

    return signature


BLEU_1, BLEU_2, BLEU_3, BLEU_4 = (
    Measure("coco_bleu", _collect_bleu, bleu(n), _signature(f"bleu|n:{n}|corpus"), status)
    for n in range(1, 5)
)
BLEU_MEAN = Measure(
    "coco_bleu", _collect_bleu, bleu_mean, _signature("bleu|n:mean of 1 to 4|corpus"), status
)
ROUGE_L = Measure(
    "coco_rouge_l", _collect_rouge, ratio, _signature("rougeL|beta:1.2|mean of reports"), status
)
METEOR = Measure(
    "coco_meteor", _collect_meteor, meteor, _signature("meteor:1.5|-norm|corpus"), status
)
