"""Word overlap is what the packages compute whose names it carries."""

from __future__ import annotations

import random

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from rad3d.metrics import coco
from rad3d.metrics.overlap import (
    bleu,
    bleu_row,
    common_subsequence,
    meteor_scores,
    rouge_l,
    rouge_n,
    tokens_13a,
    tokens_rouge,
)
from rad3d.synthetic.grammar import write_report
from rad3d.synthetic.truth import draw_truth

ODD_TEXTS = [
    'Nodule of 3.5 mm (was 2,5 mm); "stable" - see p. 4-5.',
    "T1-T2 level; 12-mm node. Effusion... none! 50% & <5 HU [sic] {x} ~y",
    "a &amp; b &quot;c&quot; &lt;d&gt;\nImpression:\nNo change.",
    "Impres-\nsion: no <skipped> change, 1,000.5 ml.",
    "Éffusion İ naïve − µm",
]


def reports(first: int, n: int = 30) -> list[str]:
    return [write_report(draw_truth(seed)).text for seed in range(first, first + n)]


def corpus_bleu(references: list[str], predictions: list[str], order: int) -> float:
    rows = [
        bleu_row(tokens_13a(true), tokens_13a(said))
        for true, said in zip(references, predictions, strict=True)
    ]
    return float(bleu(order)(np.array(rows, dtype=float).sum(axis=0)))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("shorter", [False, True])
def test_bleu_is_that_of_sacrebleu(order: int, shorter: bool) -> None:
    references, predictions = reports(0), reports(500)
    if shorter:
        predictions = [" ".join(text.split()[:20]) for text in predictions]
    peer = sacrebleu.BLEU(smooth_method="none", max_ngram_order=order)
    expected = peer.corpus_score(predictions, [references]).score / 100
    assert expected > 0
    assert corpus_bleu(references, predictions, order) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_tokens_13a_are_those_of_sacrebleu(text: str) -> None:
    peer = sacrebleu.metrics.bleu._get_tokenizer("13a")()
    assert tokens_13a(text) == peer(text).split()


def test_bleu_of_reports_that_share_no_four_words_is_zero_and_of_nothing_too() -> None:
    assert corpus_bleu(["the heart is large"], ["is the large heart"], 4) == 0.0
    assert corpus_bleu(["the heart is large"], ["is the large heart"], 1) == 1.0
    assert corpus_bleu(["the heart is large"], [""], 1) == 0.0
    assert corpus_bleu([""], [""], 1) == 0.0


def test_rouge_is_that_of_rouge_score_without_stemmer() -> None:
    peer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    pairs = [
        *zip(reports(0), reports(500), strict=True),
        (ODD_TEXTS[0], ODD_TEXTS[1]),
        ("", "x"),
        ("one", "one"),
    ]
    for true, said in pairs:
        expected = peer.score(true, said)
        a, b = tokens_rouge(true), tokens_rouge(said)
        assert rouge_n(a, b, 1) == pytest.approx(expected["rouge1"].fmeasure)
        assert rouge_n(a, b, 2) == pytest.approx(expected["rouge2"].fmeasure)
        assert rouge_l(a, b) == pytest.approx(expected["rougeL"].fmeasure)


@pytest.mark.parametrize("seed", range(5))
def test_the_common_subsequence_is_that_of_the_plain_table(seed: int) -> None:
    rng = random.Random(seed)
    a, b = ([rng.choice("abcd") for _ in range(rng.randrange(80))] for _ in range(2))
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
            )
    assert common_subsequence(a, b) == table[-1][-1]


def test_meteor_matches_stems_prefers_one_piece_and_takes_empty_text() -> None:
    reference = "Small effusions in the left lung."
    same, stem, torn, other = meteor_scores(
        [reference] * 4,
        [
            reference,
            "Small effusion in the left lungs.",
            "Left lung the in effusions small.",
            "Normal heart size today here.",
        ],
    )
    assert same == stem > torn > other
    assert stem > 0.9
    assert list(meteor_scores(["", "x", ""], ["", "", "y"])) == [0, 0, 0]


def test_meteor_of_one_pair_is_what_its_formula_says() -> None:
    # 4 of 4 and 5 words in one piece: F = P R / (0.9 P + 0.1 R), less 0.5 (1 / 4)^3 of it.
    value = meteor_scores(["the heart is very large"], ["the heart is very"])[0]
    precision, recall = 1.0, 4 / 5
    expected = precision * recall / (0.9 * precision + 0.1 * recall) * (1 - 0.5 * (1 / 4) ** 3)
    assert value == pytest.approx(expected)


def test_the_java_profile_says_what_it_needs_or_runs() -> None:
    status = coco.status()
    if not status.ready:
        assert status.state == "needs package"
        assert status.reason
        return
    tokens = coco.tokens_ptb(["The HEART (large), is large.", "", "No change"])
    assert tokens == [["the", "heart", "large", "is", "large"], [], ["no", "change"]]
    rows = coco.meteor_rows(tokens[:2], [tokens[0], tokens[2]])
    assert coco.meteor(rows) == pytest.approx([1, 0])


def test_coco_meteor_follows_the_published_formula() -> None:
    # 12 against 7 words; 3 content words and 1 function word match, one pair is a paraphrase.
    row = np.zeros(23)
    row[:8] = [12, 7, 5, 2, 3, 3, 1, 1]
    row[16:23] = [1, 1, 1, 0, 3, 6, 5]
    precision = (0.75 * 3 + 0.25 * 1 + 0.6 * (0.75 + 0.25)) / (0.75 * 7 + 0.25 * 5)
    recall = (0.75 * 3 + 0.25 * 1 + 0.6 * 0.75) / (0.75 * 5 + 0.25 * 2)
    f_mean = precision * recall / (0.85 * precision + 0.15 * recall)
    expected = f_mean * (1 - 0.6 * (3 / 5.5) ** 0.2)
    assert coco.meteor(row) == pytest.approx(expected)
    assert coco.meteor(np.stack([row, 2 * row])) == pytest.approx([expected, expected])
    assert coco.meteor(np.zeros(23)) == 0


def test_coco_rouge_weighs_recall() -> None:
    a, b = ["the", "heart", "is", "very", "large"], ["heart", "is", "large"]
    precision, recall = 1.0, 3 / 5
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert coco.rouge_l(a, b) == pytest.approx(expected)
    assert coco.rouge_l(a, []) == 0
