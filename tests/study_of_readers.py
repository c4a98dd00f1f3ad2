"""A small reader study for tests, and answers to it."""

from __future__ import annotations

from rad3d.readers.types import Answer, Case, Design, Screen

SYSTEMS = ("one/v1", "two/v3", "three/words")


def small_design(cases: int = 4, per_case: int = 2, systems: int = 3, **more: object) -> Design:
    """A study whose texts say neither case nor system, but for a number that stands for both."""
    names = SYSTEMS[:systems]
    return Design(
        "Chest CTs",
        names,
        tuple(
            Case(f"case-{n}", f"phantom:in:{30_000 + n}", f"Reference {n}.",
                 {name: f"Findings: Text {10 * n + i}.\nImpression: None." for i, name in
                  enumerate(names)})
            for n in range(cases)
        ),
        per_case,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def answer_to(screen: Screen, score: int = 3, **more: object) -> Answer:
    """An answer that fits a report's place."""
    scores = {"accuracy": score, "language": score, "harm": min(score, 4)}
    values: dict[str, object] = {"preference": "this" if screen.slot else "", "seconds": 5.0}
    return Answer(scores, **(values | more))  # type: ignore[arg-type]
