"""A study of seeds, pairs and sizes: what is trained, what is cut, and what may be concluded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.labels import LABELS
from rad3d.data.samples import Prediction, PredictionSet, Sample, SampleSet
from rad3d.data.spec import SetSpec
from rad3d.evaluation.claims import NOT_SEEN, OPPOSITE, PARTLY, SEEN, UNTESTED, Claim, claims
from rad3d.evaluation.figures.scaling import study_figure
from rad3d.evaluation.figures.worth import worth_figure
from rad3d.evaluation.leaderboard import SetFacts, StudyView, view_of
from rad3d.evaluation.listening import listening, listening_table, stored_listening
from rad3d.evaluation.run_types import EvaluationRequest, EvaluationRun
from rad3d.evaluation.storage import Outcome, save_group, save_run
from rad3d.evaluation.study_plan import Axes, Cell, planned
from rad3d.evaluation.system_names import System, system_of
from rad3d.metrics.registry import metric_row
from rad3d.metrics.scorecard import Scorecard, score

AXES = Axes(("phantom-s", "phantom-l"), ("v2", "v3"), (200, 1600), (0, 1))
IN = "phantom-in"
METRICS = ("f1_macro", "factuality", "right_against")


def test_a_plan_names_what_it_cuts_and_why() -> None:
    plan = planned(AXES, 1600)
    assert Cell("phantom-s", "v3", 200, 1) in plan.cells
    assert not [c for c in plan.cells if c.llm == "phantom-l" and c.pairs == 200]
    assert sum(cut.cells for cut in plan.cuts) + len(plan.cells) == len(AXES.cells()) == 16
    assert [cut.reason for cut in plan.cuts] == ["fewer pairs are tried on phantom-s alone"]
    assert not planned(replace(AXES, is_full=True), 1600).cuts


def test_pairs_that_are_not_there_are_cut() -> None:
    plan = planned(AXES, 1000)
    assert {cell.pairs for cell in plan.cells} == {200}
    assert "only 1,000 pairs are there" in [cut.reason for cut in plan.cuts]
    assert {cell.llm for cell in plan.cells} == {"phantom-s", "phantom-l"}


def test_a_bound_on_hours_keeps_whole_comparisons_of_the_first_seeds() -> None:
    plan = planned(AXES, 1600, hours=1.0, cost=lambda cell: 600.0)
    assert {cell.seed for cell in plan.cells} == {0}
    assert len(plan.cells) == 6
    assert plan.cuts[-1].reason == "more than 1 hours in all"


def test_the_axes_of_a_study_are_checked() -> None:
    with pytest.raises(UnknownName):
        replace(AXES, modes=("v9",))
    for wrong in ({"pairs": (5,)}, {"seeds": (-1,)}, {"seeds": ()}):
        with pytest.raises(BadRequest):
            replace(AXES, **wrong)


@pytest.mark.parametrize(
    ("name", "shown", "group", "pairs", "encoder"),
    [
        ("phantom-s/v3.p400.s1", "Phantom S · V-3, 400 pairs, seed 1", "phantom-s/v3.p400", 400,
         ""),
        ("phantom-s/v3.p400", "Phantom S · V-3, 400 pairs", "", 400, ""),
        ("phantom-s/text.p400", "Phantom S · Text", "", 400, ""),
        ("phantom-s/v3.p1600.s0.other+image-zero",
         "Phantom S · V-3, 1,600 pairs, other, seed 0, image zeroed",
         "phantom-s/v3.p1600.other+image-zero", 1600, "other"),
        ("lookup (other)", "Template baseline (other)", "", 0, ""),
    ],
)  # fmt: skip
def test_a_systems_id_tells_its_axes(
    name: str, shown: str, group: str, pairs: int, encoder: str
) -> None:
    system = system_of(name, {})
    assert (system.shown, system.group) == (shown, group)
    assert (system.pairs, system.encoder) == (pairs, encoder)
    assert Cell("phantom-s", "v3", 400, 1).variant == "phantom-s/v3.p400.s1"


def _samples(n: int) -> SampleSet:
    rows = np.random.default_rng(0).integers(0, 2, (n, len(LABELS)))
    return SampleSet(
        IN,
        "Phantoms",
        tuple(
            Sample(f"c{i}", _text([LABELS[j] for j in np.flatnonzero(row)]), tuple(map(int, row)))
            for i, row in enumerate(rows)
        ),
    )


def _text(labels: list[str]) -> str:
    return " ".join(f"{label} is present." for label in labels)


def _card(name: str, skill: float, seed: int, n: int = 120) -> Scorecard:
    """A system that says each label rightly with a probability; its prior does so in 0.8."""
    samples = _samples(n)
    rng = np.random.default_rng(seed)

    def said(sample: Sample, right: float) -> list[str]:
        known = sample.labels or ()
        return [
            label
            for label, there in zip(LABELS, known, strict=True)
            if there == (rng.random() < right)
        ]

    predictions = tuple(
        Prediction(
            each.id,
            _text(said(each, skill)),
            seen=tuple(said(each, 0.8)),
        )
        for each in samples.samples
    )
    return score(samples, PredictionSet(name, IN, predictions), metrics=METRICS, resamples=200)


def _view(skills: dict[str, float], facts: dict[str, object] | None = None) -> StudyView:
    cards = {(name, IN): _card(name, skill, i) for i, (name, skill) in enumerate(skills.items())}
    costs = {name: {"parameters": 850_000, "trainable": 10, "seconds": 1} for name in skills}
    return StudyView(cards, [SetFacts(IN, "Phantoms", "in", 120)], costs, facts)


def _claim(view: StudyView, start: str) -> Claim:
    return next(claim for claim in claims(view) if claim.text.startswith(start))


@pytest.fixture(scope="module")
def seeds() -> StudyView:
    return _view(
        {
            f"phantom-s/{mode}.p{pairs}.s{seed}": skill
            for mode, pairs, skill in (("v2", 200, 0.7), ("v3", 200, 0.9), ("v2", 400, 0.8),
                                       ("v3", 400, 0.8))
            for seed in (0, 1)
        },
        {"redundancy": {"phantom-cnn": 0.4}},
    )  # fmt: skip


@pytest.mark.slow
def test_seeds_stand_as_one_system_in_tables_and_figures(seeds: StudyView) -> None:
    names = [card.name for card in seeds.on(IN)]
    assert names == [f"phantom-s/{m}.p{p}" for p in (200, 400) for m in ("v2", "v3")]
    card = seeds.cards["phantom-s/v3.p200", IN]
    members = [
        seeds.cards[name, IN].estimates["f1_macro"].value for name in seeds.members[card.name]
    ]
    assert card.estimates["f1_macro"].value == pytest.approx(np.mean(members))
    assert seeds.single("phantom-s/v3.p200") == "phantom-s/v3.p200.s0"
    assert seeds.systems["phantom-s/v3.p200"].parameters == 850_000


@pytest.mark.slow
def test_the_priors_worth_is_drawn_against_the_pairs(seeds: StudyView) -> None:
    rows = seeds.worth("f1_macro")
    assert [c.system.pairs for c in rows] == [200, 400]
    assert rows[0].difference.low > 0.05 > abs(rows[1].difference.value)
    figure = worth_figure(rows, {IN: "In"}, metric_row("f1_macro"))
    assert list(figure.layout.xaxis.ticktext) == ["200", "400"]
    for given in (rows, rows[::-1]):  # the largest number of pairs is evaluated first
        figure = worth_figure(given, {IN: "In"}, metric_row("f1_macro"))
        assert [tuple(t.y) for t in figure.data if t.name == "V-3"] == [
            tuple(c.difference.value for c in rows)
        ]


@pytest.mark.slow
def test_quality_against_the_pairs_has_a_line_for_each_mode(seeds: StudyView) -> None:
    points, row = seeds.points("f1_macro"), metric_row("f1_macro")
    against_pairs = study_figure(points, {IN: "In"}, row, "pairs")
    assert {t.name: len(t.x) for t in against_pairs.data} == {"V-2": 2, "V-3": 2}
    by_size = study_figure(points, {IN: "In"}, row, "parameters")
    assert {t.name: len(t.x) for t in by_size.data} == {"V-2": 1, "V-3": 1}, "of the most pairs"


@pytest.mark.slow
def test_a_claim_is_seen_only_in_part_where_only_some_comparisons_show_it(
    seeds: StudyView,
) -> None:
    claim = _claim(seeds, "A diagnostic prior")
    assert claim.verdict == PARTLY
    assert "Better in 2 of 4 comparisons" in claim.words
    assert "200 pairs" in claim.words
    assert "80% power" in claim.words


@pytest.mark.slow
def test_nothing_is_concluded_from_figures_that_do_not_differ() -> None:
    claim = _claim(_view({"phantom-s/v2": 0.8, "phantom-s/v3": 0.8}), "A diagnostic prior")
    assert claim.verdict == NOT_SEEN
    assert claim.words.startswith("No significant difference: macro F1 ")


@pytest.mark.slow
def test_the_opposite_of_a_claim_is_called_that() -> None:
    claim = _claim(_view({"phantom-s/v2": 0.95, "phantom-s/v3": 0.6}), "A diagnostic prior")
    assert claim.verdict == OPPOSITE
    assert claim.words.startswith("Worse in 2 of 2")


@pytest.mark.slow
def test_a_prior_that_the_embedding_holds_cannot_show_the_claim_false() -> None:
    same = {"phantom-s/v2": 0.8, "phantom-s/v3": 0.8}
    claim = _claim(_view(same, {"redundancy": {"phantom-cnn": 1.0}}), "A diagnostic prior")
    assert claim.verdict == UNTESTED
    assert "linear function of the embedding (phantom-cnn: R² 1.000)" in claim.words


@pytest.mark.slow
def test_freezing_of_large_models_is_never_judged_by_small_ones() -> None:
    view = _view({"phantom-s/v1": 0.5, "phantom-s/v3": 0.95})
    claim = _claim(view, "From about 1B parameters")
    assert (claim.verdict, claim.words) == (
        UNTESTED, "The language model here has 850k parameters.",
    )  # fmt: skip
    assert _claim(view, "Below about 1B").verdict == OPPOSITE


@pytest.mark.slow
def test_a_report_judges_only_where_it_is_right_against_its_prior() -> None:
    assert _claim(_view({"phantom-s/v3": 0.99}), "The report does not follow").verdict == SEEN
    lost = _claim(_view({"phantom-s/v3": 0.5}), "The report does not follow")
    assert lost.verdict == OPPOSITE
    assert lost.words.endswith("What departs from the prior is mostly lost.")


def _run(after: list[Prediction]) -> EvaluationRun:
    before = tuple(Prediction(f"c{i}", "No pleural effusion.", seen=()) for i in range(len(after)))
    samples = _samples(len(after))
    systems = {"phantom-s/v3": before, "phantom-s/v3+logit-flipped": tuple(after)}
    return EvaluationRun(
        id="r", title="r", created="2026-11-30", revision="", status="finished",
        request=EvaluationRequest((SetSpec(IN),), draws=50), sample_sets={IN: samples},
        cards={("phantom-s/v3", IN): score(samples, PredictionSet("phantom-s/v3", IN, before),
                                           metrics=METRICS, resamples=20)},
        predictions={(n, IN): PredictionSet(n, IN, p) for n, p in systems.items()},
    )  # fmt: skip


def test_listening_counts_who_changes_and_who_follows() -> None:
    effusion = ("Pleural effusion",)
    run = _run(
        [
            Prediction("c0", "Left pleural effusion.", seen=effusion),  # follows
            Prediction("c1", "No pleural effusion.", seen=effusion),  # the same text
            Prediction("c2", "Emphysema.", seen=effusion),  # changes, and does not follow
            Prediction("c3", "No pleural effusion.", seen=()),  # nothing could be flipped
        ]
    )
    found = listening(run, "phantom-s/v3", IN)
    assert set(found) == {"", "Pleural effusion"}
    assert found[""].changed.value == pytest.approx(2 / 3)
    assert found[""].followed.value == pytest.approx(1 / 3)
    assert found[""].followed.n == 3
    head, rows = listening_table(run, view_of(run), IN)
    assert head == ["Label that is flipped", "S V-3"]
    assert rows[1][0] == "Reports that follow"
    assert rows[1][1].startswith("33% [")


def test_a_variant_that_was_not_tried_has_no_table() -> None:
    run = replace(_run([Prediction("c0", "x", seen=())]), predictions={})
    assert listening_table(run, view_of(run), IN) == ([], [])


def test_a_variant_without_a_name_for_its_encoder_is_of_the_shipped_one() -> None:
    assert system_of("phantom-s/v3", {"phantom-s/v3": {"encoder": "phantom-cnn"}}).encoder == ""
    assert system_of("phantom-s/v3", {"phantom-s/v3": {"pairs": 1600}}) == System(
        "phantom-s/v3", "Phantom S · V-3", "Phantom S", "v3", pairs=1600
    )


def test_the_listening_of_a_stored_run_is_that_of_the_run(tmp_path: Path) -> None:
    run = replace(_run([Prediction("c0", "Left pleural effusion.", seen=("Pleural effusion",))]),
                  directory=tmp_path)  # fmt: skip
    card = run.cards["phantom-s/v3", IN]
    outcomes = [
        Outcome(predictions, replace(card, name=name))
        for (name, _), predictions in run.predictions.items()
    ]
    save_run(run)
    save_group(tmp_path, "phantom-s/v3", outcomes)
    stored = stored_listening(tmp_path, "phantom-s/v3", IN)
    assert set(stored) == {"", "Pleural effusion"}
    assert stored[""].followed.value == 1.0
    assert stored_listening(tmp_path, "phantom-s/v1", IN) == {}
