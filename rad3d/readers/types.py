"""Types of a reader study: what is read, what is asked, what was answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rad3d.core.errors import BadRequest

MAX_SYSTEMS = 4
MAX_CASES = 500
MAX_COMMENT = 2000
"""Characters of a free text; a longer one is refused."""

MAX_SECONDS = 4 * 3600.0
"""Time on one report beyond which it counts as this much: a page was left open."""


@dataclass(frozen=True)
class Question:
    """A scale on which every report is rated.

    Attributes:
        id: column of the answers.
        name: a few words.
        text: what is asked.
        choices: what 1, 2, ... stand for.
        higher_is_better: whether the last choice is the best.
    """

    id: str
    name: str
    text: str
    choices: tuple[str, ...]
    higher_is_better: bool = True

    @property
    def best(self) -> int:
        """The choice that is best."""
        return len(self.choices) if self.higher_is_better else 1


QUESTIONS: tuple[Question, ...] = (
    Question(
        "accuracy",
        "Clinical accuracy",
        "Is what the report says about this scan right and complete?",
        ("wrong in what matters", "mostly wrong", "partly right", "mostly right",
         "right and complete"),
    ),
    Question(
        "language",
        "Language",
        "Is it written as a report should be?",
        ("unusable", "poor", "acceptable", "good", "as a colleague would write"),
    ),
    Question(
        "harm",
        "Discrepancy",
        "How far would you disagree with it, and would that matter for care?",
        ("none", "of no consequence for care", "likely to change care",
         "could harm the patient"),
        higher_is_better=False,
    ),
)  # fmt: skip
"""The paper's two 5-point scales, and a discrepancy score in the manner of RADPEER (ACR)."""

Preference = Literal["before", "same", "this"]
"""Which of two reports on a scan is better: the one read before, neither, or this one."""

PREFERENCES: dict[Preference, str] = {
    "before": "the one before",
    "same": "no difference",
    "this": "this one",
}


@dataclass(frozen=True)
class Case:
    """A case of a study.

    Attributes:
        id: of the sample.
        scan: where it can be opened, as in :class:`rad3d.data.samples.Sample`.
        reference: shown in place of the scan where there is none.
        texts: system -> its report.
    """

    id: str
    scan: str
    reference: str
    texts: Mapping[str, str]


@dataclass(frozen=True)
class Design:
    """What a study consists of; it never changes once there are readers.

    Attributes:
        title: shown to the readers, so it must not name a system.
        systems: 2 to 4 names, which readers never see.
        cases: with a report of each system.
        per_case: reports that a reader reads on one scan, 1 to the number of systems.
        seed: of every order.
        source: where the reports come from, in plain JSON values.
        simulated: the readers are drawn by a computer.
    """

    title: str
    systems: tuple[str, ...]
    cases: tuple[Case, ...]
    per_case: int
    seed: int = 0
    source: Mapping[str, Any] = field(default_factory=dict)
    simulated: bool = False

    def __post_init__(self) -> None:
        if not 2 <= len(set(self.systems)) == len(self.systems) <= MAX_SYSTEMS:
            raise BadRequest(
                f"A reader study compares 2 to {MAX_SYSTEMS} systems, not {len(self.systems)}.",
                "Name each of them once.",
                code="bad_systems",
            )
        if not 1 <= len(self.cases) <= MAX_CASES:
            raise BadRequest(
                f"A reader study has 1 to {MAX_CASES} cases, not {len(self.cases)}.",
                code="bad_cases",
            )
        if not 1 <= self.per_case <= len(self.systems):
            raise BadRequest(
                f"A reader can read 1 to {len(self.systems)} reports on a scan, not "
                f"{self.per_case}.",
                code="bad_option",
            )
        if not 0 <= self.seed < 2**32:
            raise BadRequest(f"The seed must lie between 0 and {2**32 - 1}.", code="bad_option")


@dataclass(frozen=True)
class Study:
    """A stored study without its texts.

    Attributes:
        id: short, for the command line.
        title, systems, per_case, seed, source, simulated: as in :class:`Design`.
        created: date and time, UTC, ISO 8601.
        cases: how many.
        readers: how many have begun.
        rated: reports that have been rated, by all readers.
    """

    id: str
    title: str
    created: str
    systems: tuple[str, ...]
    per_case: int
    seed: int
    source: Mapping[str, Any]
    simulated: bool
    cases: int
    readers: int = 0
    rated: int = 0

    @property
    def total(self) -> int:
        """Reports that one reader is asked to rate."""
        return self.cases * self.per_case


@dataclass(frozen=True)
class Answer:
    """What a reader says about one report.

    Attributes:
        scores: question -> 1, 2, ...
        preference: against the report read before on the same scan; empty for the first.
        comment: free text.
        seconds: for which the report was in view since it was opened.
    """

    scores: Mapping[str, int]
    preference: Preference | Literal[""] = ""
    comment: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for question in QUESTIONS:
            score = self.scores.get(question.id)
            if type(score) is not int or not 1 <= score <= len(question.choices):
                raise bad_answer(f"{question.name} is not answered.")
        if self.preference not in ("", *get_args(Preference)):
            raise bad_answer("There is no such preference.")
        if len(self.comment) > MAX_COMMENT:
            raise bad_answer(f"The comment is longer than {MAX_COMMENT} characters.")
        if not 0 <= self.seconds < float("inf"):
            raise bad_answer("The time is no number of seconds.")

    @classmethod
    def from_plain(cls, values: Any) -> Answer:
        """Return the answer that a page sends; raises BadRequest for anything else."""
        try:
            scores = {question.id: values["scores"].get(question.id) for question in QUESTIONS}
            preference, comment = values.get("preference", ""), values.get("comment", "")
            seconds = float(values.get("seconds", 0.0))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            raise bad_answer("The answers cannot be read.") from None
        if not isinstance(comment, str) or not isinstance(preference, str):
            raise bad_answer("The answers cannot be read.")
        comment = comment.encode("utf-8", "replace").decode().replace("\0", "")
        return cls(scores, preference, comment.strip(), seconds)  # type: ignore[arg-type]


def bad_answer(problem: str) -> BadRequest:
    """Return the error of an answer that cannot be kept."""
    return BadRequest(problem, "Nothing was kept; answer again.", code="bad_answer")


@dataclass(frozen=True)
class Screen:
    """One report that a reader rates, at its place in the reader's order.

    Attributes:
        position: from 0.
        case: number of the case in the study, from 0.
        slot: how many reports on this scan come before it.
        system: who wrote it, as a number into :attr:`Study.systems`.
        answer: None until it is rated.
        changes: how often it was stored; a page that knows another number is out of date.
        saved: date and time, UTC, ISO 8601; empty until then.
    """

    position: int
    case: int
    slot: int
    system: int
    answer: Answer | None = None
    changes: int = 0
    saved: str = ""


@dataclass(frozen=True)
class Rating:
    """A rated report, for statistics.

    Attributes:
        reader: from 1.
        case: id.
        system: who wrote the report.
        screen: its place and the answer.
        before: the system of the report that it was compared with; empty where there is none.
    """

    reader: int
    case: str
    system: str
    screen: Screen
    before: str = ""

    @property
    def answer(self) -> Answer:
        """The answer, which a rating always has."""
        assert self.screen.answer is not None
        return self.screen.answer
