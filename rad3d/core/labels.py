"""Label sets: which abnormalities a classifier, a diagnosis, a table or a score speaks of.

A set is a file of JSON. Two are in ``label_sets`` beside this module; anybody's own is read from a
path. Arrays of logits, probabilities and labels follow the order of their set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

from rad3d.core.errors import BadRequest, some
from rad3d.core.words import bare, counted

FOLDER = Path(__file__).parent / "label_sets"
SHIPPED = ("ct-rate", "inspect")
MAX_LABELS, MAX_LENGTH = 500, 200
"""Labels of a set, and characters of a name or phrase."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_TERM = re.compile(r"\w[\w' /-]*\w\*?")


@dataclass(frozen=True)
class Label:
    """One abnormality.

    Attributes:
        name: shown to people, and the name of its column in tables.
        short: for narrow places; the name by default.
        columns: further names of its column.
        words: how a prompt names it; the name in small letters by default.
        finding: what the rules of :mod:`rad3d.reports.labeller` call it; by default the finding of
            the same name, where they know one.
        terms: phrases that state it in a report, further to those rules; ``*`` at the end stands
            for any ending.
    """

    name: str
    short: str = ""
    columns: tuple[str, ...] = ()
    words: str = ""
    finding: str = ""
    terms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        texts = (self.name, self.short, self.words, self.finding, *self.columns, *self.terms)
        if not all(isinstance(each, str) and len(each) <= MAX_LENGTH for each in texts):
            raise _bad(f"A label holds something else than texts of up to {MAX_LENGTH} letters.")
        if not self.name.strip() or not self.name.isprintable():
            raise _bad("A label has no name.")
        if self.finding and self.finding not in FINDING_NAMES:
            raise _bad(f"The labeller knows no finding {self.finding!r}, which {self.name} names.")
        if bad := [term for term in self.terms if not _TERM.fullmatch(term)]:
            raise _bad(f"{bad[0]!r} of {self.name} is no phrase: words, and * only at the end.")

    @property
    def rule(self) -> str:
        """The labeller's finding that is meant; empty where its rules know none."""
        same = (name for name in FINDING_NAMES if bare(name) == bare(self.name))
        return self.finding or next(same, "")


@dataclass(frozen=True)
class LabelSet:
    """Labels in order.

    Attributes:
        id: a short word, written into models, features and runs.
        name: shown to people.
        labels: at least one; no two have a name or column in common.
        note: where the set is from.
    """

    id: str
    name: str
    labels: tuple[Label, ...]
    note: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not _ID.fullmatch(self.id):
            raise _bad("The id of a label set is one word: letters, digits, dots and dashes.")
        if not isinstance(self.name, str) or not isinstance(self.note, str):
            raise _bad("Name and note of a label set are texts.")
        if not 1 <= len(self.labels) <= MAX_LABELS:
            raise _bad(f"A label set has 1 to {MAX_LABELS} labels, not {len(self.labels)}.")
        columns: set[str] = set()
        for label in self.labels:
            own = {bare(each) for each in (label.name, *label.columns)}
            if own & columns:
                raise _bad(f"{label.name} shares a name or column with another label.")
            columns |= own

    def __len__(self) -> int:
        return len(self.labels)

    def __str__(self) -> str:
        return f"{self.name} ({counted(len(self), 'label')})"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names in order."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Name -> place in the order."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def short_names(self) -> Mapping[str, str]:
        """Name -> what stands for it in narrow places."""
        return {label.name: label.short or label.name for label in self.labels}

    @cached_property
    def stated_by(self) -> Mapping[str, tuple[str, ...]]:
        """What a mention in a report is called -> the labels that it states."""
        found: dict[str, tuple[str, ...]] = {}
        for label in self.labels:
            for key in {label.rule or label.name, label.name}:
                found[key] = (*found.get(key, ()), label.name)
        return found

    @cached_property
    def unread(self) -> tuple[str, ...]:
        """Labels that no rule finds in a report."""
        return tuple(each.name for each in self.labels if not (each.rule or each.terms))

    def require_rules(self) -> None:
        """Raises BadRequest where a label cannot be read from a report."""
        if self.unread:
            raise BadRequest(
                f"The label set {self.name} says of {some(self.unread, 3)} neither which finding "
                "of the labeller it is nor which terms state it, so no report can be read for it.",
                "Add that to its file, or leave the label out.",
                code="no_rules",
            )

    def require_same(self, other: LabelSet, whose: str, others: str) -> None:
        """Raises BadRequest where another set has not the same names in the same order."""
        if self.names != other.names:
            raise BadRequest(
                f"{whose} has the labels of {self}, and {others} those of {other}.",
                "Both need the same labels in the same order.",
                code="other_labels",
            )

    def to_plain(self) -> Any:
        """What is written into files: the id of a set that ships, else the whole set."""
        if self.id in SHIPPED and self == shipped(self.id):
            return self.id
        labels = [{k: v for k, v in asdict(each).items() if v} for each in self.labels]
        return {**asdict(self), "labels": labels}

    @classmethod
    def from_plain(cls, value: Any) -> LabelSet:
        """The inverse of :meth:`to_plain`; None, as in files of earlier versions, is CT-RATE's set.

        Raises:
            BadRequest: it is none; the sentence says why.
        """
        if isinstance(value, LabelSet):
            return value
        if value is None or isinstance(value, str):
            return shipped(value or "ct-rate")
        try:
            if not isinstance(value["labels"], list):
                raise TypeError("labels is no list")
            labels = tuple(map(_label, value["labels"]))
            return cls(**{"name": value["id"], **value, "labels": labels})
        except (TypeError, KeyError, AttributeError) as error:
            raise _bad(
                "A label set is an object with id, name and labels; a label is a name, or an "
                f"object with {', '.join(Label.__annotations__)}. Here: {error}."
            ) from error

    @classmethod
    def find(cls, text: str) -> LabelSet:
        """The set that ships under this id, or the one in a file of JSON; raises BadRequest."""
        if text in SHIPPED:
            return shipped(text)
        path = Path(text).expanduser()
        try:
            return cls.from_plain(json.loads(path.read_text(encoding="utf-8-sig")) or ())
        except OSError as error:
            raise BadRequest(
                f"There is no label set {text}.",
                f"Give a file of JSON, or one of {', '.join(SHIPPED)}.",
                code="no_file",
            ) from error
        except ValueError as error:
            raise _bad(f"{path.name} is no JSON ({error}).") from error

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """How :func:`rad3d.core.plain.from_plain` reads it."""
        from pydantic import PlainValidator

        return handler.generate_schema(Annotated[Any, PlainValidator(cls.from_plain)])


def _label(value: Any) -> Label:
    if isinstance(value, str):
        return Label(value)
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
    return Label(**fields)


def _bad(problem: str) -> BadRequest:
    return BadRequest(problem, "docs/researcher.md shows a file.", code="bad_label_set")


@cache
def shipped(id_: str) -> LabelSet:
    """A set of :data:`SHIPPED`; raises BadRequest for any other."""
    if id_ not in SHIPPED:
        raise _bad(f"There is no label set {id_[:40]!r} here.")
    return LabelSet.from_plain(json.loads((FOLDER / f"{id_}.json").read_text(encoding="utf-8")))


CT_RATE = shipped("ct-rate")
"""The set of CT-RATE, of the published CT-CLIP head and of the synthetic world."""

LABELS, LABEL_INDEX, N_LABELS = CT_RATE.names, CT_RATE.index, len(CT_RATE)

PULMONARY_EMBOLISM = "Pulmonary embolism"
"""Drawn only in the out-of-domain phantoms; no shipped model is trained on it."""

FINDING_NAMES: tuple[str, ...] = (*LABELS, PULMONARY_EMBOLISM)
"""The findings that the labeller's rules know and phantoms have."""
