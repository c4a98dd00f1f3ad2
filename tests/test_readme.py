"""README's claims about the app hold: what ships, what a model writes, what was measured."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from scripts_as_modules import ROOT, script
from test_docs import read

import rad3d
from rad3d.cli import build_parser
from rad3d.commands.eval_study import _request, open_evaluations
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.modes import MODES
from rad3d.evaluation.evaluations import STUDY_DIR
from rad3d.evaluation.leaderboard import StudyView, view_of
from rad3d.evaluation.run_types import EvaluationRun
from rad3d.evaluation.storage import read_run
from rad3d.evaluation.system_names import LOOKUP
from rad3d.metrics.bootstrap import Estimate
from rad3d.metrics.compare import Difference
from rad3d.metrics.factuality import known_statement, match_findings, statement_of
from rad3d.model.variants.variant import VariantConfig
from rad3d.reports.labeller import find_mentions
from rad3d.synthetic.truth import draw_truth

README = read("README.md")
PROSE = " ".join(README.split())
VARIANTS = [
    VariantConfig.read(path.parent)
    for path in sorted((ROOT / "assets" / "models" / "variants").glob("*/*/variant.json"))
]
NUMBERS = [
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
]  # fmt: skip


def number(word: str) -> int:
    return int(word) if word.isdigit() else NUMBERS.index(word.lower())


@pytest.fixture(scope="module")
def study() -> EvaluationRun:
    return read_run(STUDY_DIR)


@pytest.fixture(scope="module")
def view(study: EvaluationRun) -> StudyView:
    return view_of(study)


# What ships


def test_as_many_variants_ship_as_are_counted() -> None:
    counted = re.search(r"(\w+) variants that are ready", PROSE)
    assert counted
    assert number(counted[1]) == len(VARIANTS)


def test_the_table_of_modes_is_the_registrys() -> None:
    table = README.partition("| mode | language model |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert len(rows) == len(MODES)
    for (name, language_model, given, trained), mode in zip(rows, MODES.values(), strict=True):
        assert name.split()[0] == mode.name.split()[0].rstrip(",")
        assert language_model.startswith("fine-tuned") == mode.trains_llm
        for what in ("image", "logits", "tokens", "findings"):
            assert (what in given) == (what in mode.reads), name
        assert ("transformer" in trained) == (mode.projector == "transformer")
        assert ("adapters" in trained) == bool(mode.adapter)
        assert (trained == "nothing") == (not mode.trains)


def test_the_sizes_of_shipped_language_models_are_theirs() -> None:
    shipped = {row.id for row in LANGUAGE_MODELS.values() if row.shipped}
    counted = re.search(r"(\w+) language models ship", PROSE)
    assert counted
    assert number(counted[1]) == len(shipped)
    sizes = dict(re.findall(r"`(phantom-\w)` \((\d\.\d+)M", PROSE.replace(" parameters", "")))
    assert set(sizes) == shipped
    for name, size in sizes.items():
        facts = json.loads((ROOT / f"assets/models/llms/{name}/training.json").read_text())
        assert abs(facts["parameters"] / 1e6 - float(size)) < 0.06, name


def test_the_sizes_of_embedding_and_prefix_are_those_of_the_variants() -> None:
    assert {f"{config.latent_dim}" for config in VARIANTS} == {
        re.search(r"\((\d+) numbers for the shipped encoder", PROSE)[1]  # type: ignore[index]
    }
    published = [config for config in VARIANTS if config.mode_row.is_published]
    assert {f"{config.prefix_length}" for config in published} == {
        re.search(r"a prefix of (\d+) token embeddings", PROSE)[1]  # type: ignore[index]
    }


# Commands


@pytest.mark.slow
def test_an_evaluation_without_arguments_is_the_shipped_study(study: EvaluationRun) -> None:
    assert "without arguments it is the whole shipped study" in PROSE
    request = _request(build_parser().parse_args(["eval", "run"]), open_evaluations())
    shipped = study.request
    assert set(request.sets) == set(shipped.sets)
    assert set(request.variants) == set(shipped.variants)
    assert set(request.controls) >= set(shipped.controls)
    assert (request.limit, request.seed) == (shipped.limit, shipped.seed)


# A report


@pytest.fixture(scope="module")
def quote() -> list[str]:
    """The quoted sentences of the sample's report."""
    lines = re.findall(r"^> (.+)$", README.partition("## A report")[2].partition("## In")[0], re.M)
    pieces = " ".join(lines).split("[...]")
    return [s for piece in pieces for s in re.split(r"(?<=[.])\s+", piece.strip()) if s]


def matches(text: str) -> dict[str, str]:
    """Label -> how the text's finding compares with the truth about the quoted sample."""
    truth = known_statement(draw_truth(50023, "in").findings, ())
    found = match_findings(truth, statement_of(find_mentions(text)))
    return {match.label: match.kind for match in found}


def test_the_quoted_report_states_what_the_readme_says_of_it(quote: list[str]) -> None:
    kinds = matches(" ".join(quote))
    assert kinds["Pleural effusion"] == "wrong_size", "the large effusion is called small"
    assert "wrong_place" not in kinds.values(), "the sides are right"


@pytest.mark.slow
def test_the_quoted_report_is_what_the_shipped_variant_writes(quote: list[str]) -> None:
    reporter = rad3d.Reporter.from_pretrained("phantom-l/v3")
    text = reporter(ROOT / "assets" / "samples" / "in-050023.nii.gz").text
    # A sum in another order may turn a word on another processor: nearly all is the same.
    same = sum(sentence in text for sentence in quote)
    assert same >= 0.8 * len(quote), f"README quotes another report. It is now:\n{text}"
    kinds = matches(text)
    right = len(draw_truth(50023, "in").findings)
    assert f"All {NUMBERS[right]} of its findings are reported" in PROSE
    assert sum(kind in ("matched", "wrong_size") for kind in kinds.values()) == right
    assert [label for label, kind in kinds.items() if kind == "hallucinated"] == ["Atelectasis"]


# Results


@pytest.mark.slow
def test_the_conclusions_below_the_results_follow_from_the_study(view: StudyView) -> None:
    models = [row.id for row in LANGUAGE_MODELS.values() if row.shipped]
    significant = [
        (llm, name)
        for llm in models
        for name in ("phantom-in", "phantom-out")
        if (tuned := view.difference(name, "f1_macro", f"{llm}/v3", f"{llm}/v1"))
        and tuned.significant
    ]
    assert "only that of `phantom-l` in domain is significant" in PROSE
    assert significant == [("phantom-l", "phantom-in")]
    f1 = {key: card.estimates["f1_macro"].value for key, card in view.cards.items()}
    assert "fine-tuning (V-1) has the highest F1 at every size in domain" in PROSE
    assert "significantly better than every mode of the paper in factuality and laterality" in PROSE
    assert "and in macro F1 than all but V-1 of `phantom-l`" in PROSE
    papers = [mode.id for mode in MODES.values() if mode.is_published]
    for llm in models:
        assert max(papers, key=lambda mode: f1[f"{llm}/{mode}", "phantom-in"]) == "v1"
        for mode, metric in itertools.product(papers, ("f1_macro", "factuality", "side")):
            words = view.difference("phantom-in", metric, f"{llm}/{mode}", f"{llm}/words")
            even = (llm, mode, metric) == ("phantom-l", "v1", "f1_macro")
            assert words
            assert words.better == ("" if even else words.b)
    assert "Words beats it in factuality and laterality" in PROSE
    for llm, metric in itertools.product(models, ("factuality", "side")):
        words = view.difference("phantom-in", metric, LOOKUP, f"{llm}/words")
        assert words
        assert words.better == words.b
    assert "No variant beats the grammar" in PROSE
    for facts, metric in itertools.product(view.sets, ("f1_macro", "factuality", "side")):
        winners = {d.better for d in view.differences(facts.id, metric, "grammar")}
        assert winners <= {"grammar", ""}
    assert "No variant beats the template baseline" in PROSE
    for name in ("phantom-in", "phantom-out"):
        winners = {d.better for d in view.differences(name, "f1_macro", LOOKUP)}
        assert winners <= {LOOKUP, ""}
    losses = [f1[config.id, "phantom-in"] - f1[config.id, "phantom-out"] for config in VARIANTS]
    lost = re.search(r"Out of domain every variant loses about (0\.\d) to (0\.\d)", PROSE)
    assert lost
    assert [f"{min(losses):.1f}", f"{max(losses):.1f}"] == [lost[1], lost[2]]
    side = view.cards[LOOKUP, "phantom-in"].estimates["side"]
    assert side.low < 0.5 < side.high, "the template baseline picks the side at chance"


@pytest.fixture(scope="module")
def pairs() -> StudyView:
    return view_of(read_run(STUDY_DIR.with_name("study-pairs")))


def _worth(pairs: StudyView) -> Difference:
    """What V-3 adds to V-2 in domain, with most pairs and the embedding that saw no labels."""
    (found,) = (
        each.difference
        for each in pairs.worth("f1_macro")
        if (each.system.id, each.sample_set) == ("phantom-s/v3.p1600.phantom-clip", "phantom-in")
    )
    return found


@pytest.mark.slow
def test_what_is_said_of_pairs_and_encoders_follows_from_that_run(pairs: StudyView) -> None:
    added = _worth(pairs)
    assert added.significant
    assert f"{added.value:+.3f} [{added.low:.3f}, {added.high:.3f}] to the macro F1" in PROSE
    inside, outside = (
        pairs.cards["phantom-s/words.p1600.phantom-clip", name].estimates["f1_macro"].value
        for name in ("phantom-in", "phantom-out")
    )
    assert f"Words reaches {inside:.3f} in domain and {outside:.3f} out of it" in PROSE


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    return script("figures")


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "MODEL_CARD.md"])
def test_the_tables_of_figures_are_those_of_the_study(
    figures: ModuleType, study: EvaluationRun, page: str
) -> None:
    assert figures.filled(page, read(page), study) == read(page), "run: python scripts/figures.py"


@pytest.mark.slow
def test_a_trained_variant_that_the_study_lacks_is_said_to_be_not_measured(
    figures: ModuleType, study: EvaluationRun, tmp_path: Path
) -> None:
    folder = tmp_path / "variants" / "phantom-z" / "v3"
    folder.mkdir(parents=True)
    (folder / "variant.json").write_text('{"id": "phantom-z/v3"}', encoding="utf-8")
    assert "| `phantom-z/v3` | not measured |" in "\n".join(figures.card(study, tmp_path))


@pytest.mark.slow
def test_every_figure_in_the_readmes_prose_is_one_of_the_study(
    study: EvaluationRun, view: StudyView, pairs: StudyView
) -> None:
    known = {str(each) for card in study.cards.values() for each in card.estimates.values()}
    known |= {str(each) for card in study.classifier.values() for each in card.macro.values()}
    for llm, name in itertools.product(("phantom-s", "phantom-m", "phantom-l"), study.sample_sets):
        tuned = view.difference(name, "f1_macro", f"{llm}/v3", f"{llm}/v1")
        assert tuned is not None
        known.add(str(Estimate(tuned.value, tuned.low, tuned.high, tuned.n)))
    added = _worth(pairs)
    known.add(str(Estimate(added.value, added.low, added.high, added.n)))
    prose = " ".join(read("README.md").partition("end of figures")[2].split())
    for text in re.findall(r"[+-]?0\.\d+ \[-?0\.\d+, -?0\.\d+\]", prose):
        assert text.lstrip("+") in known, f"README states {text}, which the study has not found"
