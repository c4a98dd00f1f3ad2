"""Label sets: anybody's labels, read with care, and what they say in a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from labelled_scans import OWN_LABELS

from rad3d.core.errors import BadRequest
from rad3d.core.labels import CT_RATE, LabelSet, shipped
from rad3d.core.plain import from_plain, to_plain
from rad3d.reports.labeller import label_report


def test_a_set_comes_back_from_what_is_written_into_files() -> None:
    own = LabelSet.from_plain(OWN_LABELS)
    for each in (own, CT_RATE, shipped("inspect")):
        assert LabelSet.from_plain(json.loads(json.dumps(to_plain(each)))) == each
        assert from_plain(LabelSet, to_plain(each)) == each


def test_files_without_a_set_mean_ct_rate_and_shipped_sets_are_named_only() -> None:
    assert LabelSet.from_plain(None) is CT_RATE
    assert to_plain(CT_RATE) == "ct-rate"
    assert len(CT_RATE) == 18


def test_a_file_defines_a_set(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(OWN_LABELS), encoding="utf-8-sig")
    found = LabelSet.find(str(path))
    assert found.names == ("Pleural effusion", "PE", "Pneumothorax", "Mass")
    assert found.short_names["Mass"] == "M"
    assert LabelSet.find("inspect") is shipped("inspect")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "object with id"),
        ("{", "no JSON"),
        ("\udcff", "no JSON"),
        ('"nope"', "no label set 'nope'"),
        ('{"id": "x"}', "'labels'"),
        ('{"id": "x", "labels": []}', "1 to 500"),
        ('{"id": "x", "labels": "abc"}', "no list"),
        ('{"id": "x", "labels": [5]}', "object with id"),
        ('{"id": "x", "labels": [{"nam": "a"}]}', "nam"),
        ('{"id": "x", "labels": [{"name": 5}]}', "texts"),
        ('{"id": "x", "labels": [{"name": "a", "terms": [5]}]}', "texts"),
        ('{"id": "x", "labels": [" "]}', "no name"),
        ('{"id": "x", "labels": ["Lung mass", "lung_mass"]}', "shares a name"),
        ('{"id": "x", "labels": [{"name": "a", "columns": ["b"]}, "b"]}', "shares a name"),
        ('{"id": "x", "labels": [{"name": "a", "finding": "Flu"}]}', "no finding 'Flu'"),
        ('{"id": "x", "labels": [{"name": "a", "terms": ["(a+)+"]}]}', "no phrase"),
        ('{"id": "x y", "labels": ["a"]}', "one word"),
        ('{"id": "x", "name": 5, "labels": ["a"]}', "texts"),
    ],
)
def test_a_file_that_is_no_set_is_refused_in_a_sentence(
    text: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadRequest, match=told):
        LabelSet.find(str(path))


def test_a_set_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadRequest, match="no label set nowhere"):
        LabelSet.find("nowhere.json")


@pytest.mark.parametrize(
    ("report", "labels"),
    [
        ("No pneumothorax. Small left pleural effusion. Acute pulmonary embolism.", (1, 1, 0, 0)),
        ("Left PNEUMOTHORAX and a soft tissue lesion at the apex.", (0, 0, 1, 1)),
        ("Massive thickening; no mass or pneumothoraces were seen.", (0, 0, 0, 0)),
        ("", (0, 0, 0, 0)),
    ],
)
def test_own_labels_are_read_by_rules_of_the_labeller_and_by_terms(
    report: str, labels: tuple[int, ...]
) -> None:
    assert label_report(report, LabelSet.from_plain(OWN_LABELS)) == labels


def test_a_label_without_a_rule_cannot_be_read_and_says_so() -> None:
    with pytest.raises(BadRequest, match="says of Frailty neither"):
        label_report("Frail.", LabelSet.from_plain({"id": "x", "labels": ["Frailty"]}))
