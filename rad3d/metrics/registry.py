"""The table of metrics. One row adds one: command line, app and tests follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rad3d.core.lookup import lookup, resolve
from rad3d.core.origin import origin
from rad3d.metrics.cases import Places
from rad3d.metrics.measure import Measure, MetricStatus

FAMILIES: dict[str, str] = {
    "overlap-hf": "word overlap, profile hf",
    "overlap-coco": "word overlap, profile coco",
    "clinical": "clinical",
    "prior": "against the diagnostic prior",
    "weights": "clinical, with a model",
}
"""Family -> what it is called. The two overlap profiles never share a column."""


@dataclass(frozen=True)
class MetricRow:
    """One metric.

    Attributes:
        id: key in scorecards and on the command line.
        name: shown to people.
        family: a key of :data:`FAMILIES`.
        higher_is_better: the direction.
        unit: empty for a share from 0 to 1, else what is counted.
        description: one sentence.
        target: ``"module:attribute"`` of a :class:`~rad3d.metrics.measure.Measure`.
        needs: what must be there besides this package; empty for nothing.
    """

    id: str
    name: str
    family: str
    higher_is_better: bool
    unit: str
    description: str
    target: str
    needs: str = ""


_OVERLAP = "rad3d.metrics.overlap"
_COCO = "rad3d.metrics.coco"
_CLINICAL = "rad3d.metrics.clinical"
_FACTS = "rad3d.metrics.factuality"
_PRIOR = "rad3d.metrics.agreement"

_MODELS = "rad3d.metrics.models"
_EXTERNAL = "rad3d.metrics.external"
_COCO_NEEDS = "pycocoevalcap and a Java runtime"


def _runs(n: int) -> str:
    return "single words" if n == 1 else f"up to {n} words in a row"


def _bleu_rows(profile: str, module: str, needs: str = "") -> tuple[MetricRow, ...]:
    """BLEU-1 to BLEU-4 and their mean in one profile."""
    suffix = "" if profile == "hf" else f" ({profile})"
    orders = tuple(
        MetricRow(f"{profile}_bleu_{n}", f"BLEU-{n}{suffix}", f"overlap-{profile}", True, "",
                  f"Precision of {_runs(n)} over all reports, with a penalty for brevity.",
                  f"{module}:BLEU_{n}", needs)
        for n in range(1, 5)
    )  # fmt: skip
    mean = MetricRow(f"{profile}_bleu", f"BLEU, mean{suffix}", f"overlap-{profile}", True, "",
                     "Mean of BLEU-1 to BLEU-4.", f"{module}:BLEU_MEAN", needs)  # fmt: skip
    return (*orders, mean)


METRICS: dict[str, MetricRow] = {
    row.id: row
    for row in (
        *_bleu_rows("hf", _OVERLAP),
        MetricRow("hf_meteor", "METEOR", "overlap-hf", True, "",
                  "Matched words and stems, recall weighted, fewer pieces better.",
                  f"{_OVERLAP}:METEOR"),
        MetricRow("hf_rouge_1", "ROUGE-1", "overlap-hf", True, "",
                  "F-measure of words.", f"{_OVERLAP}:ROUGE_1"),
        MetricRow("hf_rouge_2", "ROUGE-2", "overlap-hf", True, "",
                  "F-measure of pairs of words.", f"{_OVERLAP}:ROUGE_2"),
        MetricRow("hf_rouge_l", "ROUGE-L", "overlap-hf", True, "",
                  "F-measure of the longest common subsequence of words.",
                  f"{_OVERLAP}:ROUGE_L"),
        *_bleu_rows("coco", _COCO, _COCO_NEEDS),
        MetricRow("coco_meteor", "METEOR (coco)", "overlap-coco", True, "",
                  "METEOR 1.5 with its own synonyms and paraphrases.",
                  f"{_COCO}:METEOR", _COCO_NEEDS),
        MetricRow("coco_rouge_l", "ROUGE-L (coco)", "overlap-coco", True, "",
                  "F-measure with beta 1.2 of the longest common subsequence of words.",
                  f"{_COCO}:ROUGE_L", _COCO_NEEDS),
        MetricRow("f1_macro", "Macro F1", "clinical", True, "",
                  "Mean F1 of the labels that occur in the references.",
                  f"{_CLINICAL}:F1_MACRO"),
        MetricRow("f1_micro", "Micro F1", "clinical", True, "",
                  "F1 over all label decisions together.", f"{_CLINICAL}:F1_MICRO"),
        MetricRow("precision_macro", "Macro precision", "clinical", True, "",
                  "Mean share of a label's assertions that are true.",
                  f"{_CLINICAL}:PRECISION_MACRO"),
        MetricRow("precision_micro", "Micro precision", "clinical", True, "",
                  "Share of all assertions that are true.", f"{_CLINICAL}:PRECISION_MICRO"),
        MetricRow("recall_macro", "Macro recall", "clinical", True, "",
                  "Mean share of a label's occurrences that are stated.",
                  f"{_CLINICAL}:RECALL_MACRO"),
        MetricRow("recall_micro", "Micro recall", "clinical", True, "",
                  "Share of all occurrences that are stated.", f"{_CLINICAL}:RECALL_MICRO"),
        MetricRow("crg", "CRG", "clinical", True, "",
                  "Hits and errors over the labels weighted by how rare a finding is; "
                  "1/3 for reports that state nothing.", f"{_CLINICAL}:CRG"),
        MetricRow("factuality", "Factuality", "clinical", True, "",
                  "F1 over findings: half a point for presence, half for place, size and severity.",
                  f"{_FACTS}:FACTUALITY"),
        MetricRow("factuality_precision", "Factuality precision", "clinical", True, "",
                  "Points over the findings that the reports state.",
                  f"{_FACTS}:FACTUALITY_PRECISION"),
        MetricRow("factuality_recall", "Factuality recall", "clinical", True, "",
                  "Points over the findings that the references state.",
                  f"{_FACTS}:FACTUALITY_RECALL"),
        MetricRow("side", "Laterality", "clinical", True, "",
                  "Share of lateralised findings reported on the correct side.", f"{_FACTS}:SIDE"),
        MetricRow("hallucinated", "Invented", "clinical", False, "per report",
                  "Findings of the report that the reference does not state.",
                  f"{_FACTS}:HALLUCINATED"),
        MetricRow("omitted", "Omitted", "clinical", False, "per report",
                  "Findings of the reference that the report does not state.", f"{_FACTS}:OMITTED"),
        MetricRow("contradictory", "Contradictory", "clinical", False, "per report",
                  "Findings that are there and denied, or both stated and denied.",
                  f"{_FACTS}:CONTRADICTORY"),
        MetricRow("wrong_place", "Wrong place", "clinical", False, "per report",
                  "Findings on the wrong side or in the wrong place.", f"{_FACTS}:WRONG_PLACE"),
        MetricRow("wrong_size", "Wrong size", "clinical", False, "per report",
                  "Findings of the wrong size, or mild instead of severe or the reverse.",
                  f"{_FACTS}:WRONG_SIZE"),
        MetricRow("not_mentioned", "Not mentioned", "prior", False, "per report",
                  "Findings above their threshold in the diagnosis that the report was written "
                  "from, and of which it does not speak.", f"{_FACTS}:NOT_MENTIONED"),
        MetricRow("prior_f1", "Agreement with the prior", "prior", True, "",
                  "Macro F1 of the labels that the report states against those that the "
                  "classifier saw in the scan it was written from.", f"{_PRIOR}:PRIOR_F1"),
        MetricRow("prior_same", "Labels as in the prior", "prior", True, "",
                  "Share of labels on which the report says what the classifier saw.",
                  f"{_PRIOR}:PRIOR_SAME"),
        MetricRow("prior_omitted", "Omitted from the prior", "prior", False, "per report",
                  "Labels that the classifier saw and the report does not state.",
                  f"{_PRIOR}:PRIOR_OMITTED"),
        MetricRow("prior_invented", "Added to the prior", "prior", False, "per report",
                  "Labels that the report states and the classifier did not see.",
                  f"{_PRIOR}:PRIOR_INVENTED"),
        MetricRow("right_against", "Right against the prior", "prior", True, "",
                  "Where report and prior differ on a label, the share in which the report is "
                  "right: above a half it judges, below it loses.", f"{_PRIOR}:RIGHT_AGAINST"),
        MetricRow("bertscore", "BERTScore", "weights", True, "",
                  "F-measure of words matched by their embeddings in a language model.",
                  f"{_MODELS}:BERTSCORE", "a transformers encoder"),
        MetricRow("radbert_f1", "RadBERT macro F1", "weights", True, "",
                  "Macro F1 of CT-RATE's labels as the RadBERT classifier reads them.",
                  f"{_MODELS}:RADBERT_F1", "the RadBERT CT classifier"),
        MetricRow("green", "GREEN", "weights", True, "",
                  "Matched findings over matched findings and significant errors, judged by a "
                  "language model.", f"{_EXTERNAL}:GREEN", "green_score, its model and a GPU"),
        MetricRow("f1_radgraph", "F1-RadGraph", "weights", True, "",
                  "F-measure of entities and whether they have relations.",
                  f"{_EXTERNAL}:F1_RADGRAPH", "radgraph and its model"),
        MetricRow("ratescore", "RaTEScore", "weights", True, "",
                  "Similarity of medical entities, aware of negation and synonyms.",
                  f"{_EXTERNAL}:RATESCORE", "RaTEScore and its models"),
    )
}  # fmt: skip

DEFAULT_FAMILIES: tuple[str, ...] = ("overlap-hf", "clinical", "prior")
"""Families that are scored by default: all that need neither weights nor Java."""


PRIMARY: tuple[str, ...] = ("f1_macro", "crg", "factuality")
"""Metrics that systems are ranked by: one each for the labels, their rarity and the findings. Fewer
comparisons keep more power after the Holm correction."""


def metric_row(metric: str) -> MetricRow:
    """The row of a metric; raises UnknownName with the known ones."""
    return lookup("metric", METRICS, metric)


def measure(metric: str) -> Measure:
    """The measure of a metric."""
    resolved: Measure = resolve(metric_row(metric).target)
    return resolved


def metric_status(metric: str, places: Places | None = None) -> MetricStatus:
    """Return whether a metric can run here, or what it needs."""
    return measure(metric).status(places or Places())


def weighted_metrics(places: Places) -> list[tuple[MetricRow, str, MetricStatus]]:
    """Every metric with weights of its own: its row, what is here and on what terms, its status."""
    found = []
    for metric in metrics_of(("weights",)):
        row, status = METRICS[metric], metric_status(metric, places)
        facts = origin(places.weights(measure(metric).statistic))
        here = f"{facts.get('name')}, licence {facts.get('licence') or 'not stated'}"
        found.append((row, here if facts else row.needs, status))
    return found


def metrics_of(families: Sequence[str]) -> tuple[str, ...]:
    """Ids of the metrics of some families, in the table's order."""
    return tuple(row.id for row in METRICS.values() if row.family in families)


def default_metrics() -> tuple[str, ...]:
    """Ids of the metrics that are scored where nothing is chosen."""
    return metrics_of(DEFAULT_FAMILIES)
