"""The routes of a reader study: who gets in, what a reader sees, and what is refused how."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser.fakes import FakeService
from starlette.applications import Starlette
from starlette.testclient import TestClient

from rad3d.core.settings import Settings
from rad3d.readers.keeping import NOT_KEPT
from rad3d.readers.store import RatingStore
from rad3d.readers.types import Case, Design, Study
from rad3d.ui.reading import SAVES, WRONG_KEYS, Reading
from rad3d.ui.routes import KEY_HEADER

SYSTEMS = ("phantom-l/v1", "phantom-l/v3")


@pytest.fixture
def store(tmp_path: Path) -> RatingStore:
    return RatingStore(tmp_path / "readers.sqlite")


def design(chest: Path | str = "", cases: int = 2) -> Design:
    """Two systems on cases whose scan is a file, or which have none."""
    return Design(
        "Chest CTs",
        SYSTEMS,
        tuple(
            Case(f"secret-id-{n}", str(chest), f"The truth of {n}.",
                 {name: f"Findings: Text {n}{i}.\nImpression: None {n}{i}." for i, name in
                  enumerate(SYSTEMS)})
            for n in range(cases)
        ),
        per_case=2,
    )  # fmt: skip


class Caller:
    """A browser with a link, and after ``join`` with a code."""

    def __init__(self, store: RatingStore, secret: str, trouble: str = "") -> None:
        reading = Reading(FakeService(), store, trouble)
        self.client = TestClient(Starlette(routes=list(reading.routes())))
        self.key = secret

    def get(self, path: str, key: str | None = None) -> Any:
        headers = {KEY_HEADER: self.key if key is None else key}
        return self.client.get(f"/read/{path}", headers=headers)

    def post(self, path: str, sent: Any) -> Any:
        body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        return self.client.post(f"/read/{path}", headers={KEY_HEADER: self.key}, content=body)

    def join(self) -> str:
        code: str = self.post("join", {}).json()["code"]
        self.key = f"{self.key}.{code}"
        return code

    def rate(self, screen: Any, score: int = 3, **more: Any) -> Any:
        sent = {
            "scores": {"accuracy": score, "language": score, "harm": 1},
            "preference": "same" if screen["before"] else "", "comment": "", "seconds": 2.5,
            "changes": screen["changes"],
        }  # fmt: skip
        return self.post(f"screen/{screen['position']}", sent | more)


@pytest.fixture
def study(store: RatingStore) -> tuple[Study, str]:
    return store.create(design())


def problem(answer: Any, status: int, words: str) -> None:
    assert answer.status_code == status
    assert words in answer.json()["problem"]
    assert answer.headers["cache-control"] == "no-store"


def test_a_reader_goes_from_the_link_to_the_last_report_and_sees_no_name(
    store: RatingStore, study: tuple[Study, str]
) -> None:
    caller = Caller(store, study[1])
    said = caller.get("study").text
    code = caller.join()
    while not (screen := caller.get("screen/next").json()).get("finished"):
        said += json.dumps(screen)
        assert caller.rate(screen).json() == {"changes": 1}
    ratings = store.ratings(study[0])
    assert len(ratings) == study[0].total == 4
    assert {rating.answer.seconds for rating in ratings} == {2.5}
    for hidden in (*SYSTEMS, "phantom-l", "secret-id", code):
        assert hidden not in said
    assert "Report A" in said
    assert "Report B" in said
    assert "The truth of" in said, "there is no scan, so that the reference stands for it"


def test_the_page_names_nothing_and_asks_for_nothing_about_a_person(
    store: RatingStore, study: tuple[Study, str]
) -> None:
    page = Caller(store, study[1]).client.get("/read")
    assert page.status_code == 200
    assert study[0].title not in page.text
    assert "no name, no address" in page.text


@pytest.mark.parametrize("key", ["", "x", "..", "x" * 5000, "a.b.c", "%00", "'--"])
def test_a_wrong_link_opens_nothing(store: RatingStore, study: tuple[Study, str], key: str) -> None:
    caller = Caller(store, key)
    for path in ("study", "screen/next", "screen/0"):
        problem(caller.get(path), 404, "This link opens no reader study.")
    problem(caller.post("join", {}), 404, "This link opens no reader study.")
    assert caller.get("0/rad3d/volume").status_code == 404
    assert store.study(study[0].id).readers == 0


def test_a_forged_code_reads_and_writes_nothing(
    store: RatingStore, study: tuple[Study, str]
) -> None:
    caller = Caller(store, study[1])
    caller.join()
    screen = caller.get("screen/next").json()
    caller.key = f"{study[1]}.AAAAA-AAAAA"
    problem(caller.get("screen/next"), 404, "no reader with this code")
    problem(caller.rate(screen), 404, "no reader with this code")
    caller.key = study[1]
    problem(caller.rate(screen), 404, "no reader with this code")
    assert store.ratings(study[0]) == ()


def test_guessing_is_slowed_down_and_does_not_lock_out_who_has_the_link(
    store: RatingStore, study: tuple[Study, str]
) -> None:
    caller = Caller(store, study[1])
    codes = [caller.get("study", f"guess-{n}").status_code for n in range(WRONG_KEYS + 5)]
    assert codes[:WRONG_KEYS] == [404] * WRONG_KEYS
    assert codes[-1] == 429
    assert caller.get("study").status_code == 200


def test_answers_are_taken_at_a_readers_pace(store: RatingStore, study: tuple[Study, str]) -> None:
    caller = Caller(store, study[1])
    caller.join()
    screen = caller.get("screen/0").json()
    codes = [caller.rate(screen).status_code for _ in range(SAVES + 3)]
    assert codes[0] == 200
    assert codes[-1] == 429


@pytest.mark.parametrize(
    "sent",
    [b"", b"[]", b"null", b"{", b'{"changes": "0"}', b'{"changes": 0}', b"[" * 50_000,
     b'{"changes": 0, "scores": {"accuracy": 9, "language": 1, "harm": 1}}', b"\xff"],
)  # fmt: skip
def test_what_is_no_answer_is_refused_in_a_sentence(
    store: RatingStore, study: tuple[Study, str], sent: bytes
) -> None:
    caller = Caller(store, study[1])
    caller.join()
    answer = caller.post("screen/0", sent)
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_answer"
    assert store.ratings(study[0]) == ()


def test_two_tabs_and_a_double_submission_end_right(
    store: RatingStore, study: tuple[Study, str]
) -> None:
    caller = Caller(store, study[1])
    caller.join()
    one = other = caller.get("screen/next").json()
    assert caller.rate(one, 4).status_code == 200
    assert caller.rate(one, 4).json() == {"changes": 1}, "sent twice"
    problem(caller.rate(other, 2), 409, "in another tab")
    shown = caller.get("screen/0").json()
    assert shown["answer"]["scores"]["accuracy"] == 4
    assert caller.rate(shown, 5).json() == {"changes": 2}, "changed later"


def test_a_restarted_server_and_a_deleted_study(
    store: RatingStore, study: tuple[Study, str]
) -> None:
    caller = Caller(store, study[1])
    caller.join()
    screen = caller.get("screen/next").json()
    again = Caller(RatingStore(store.path), caller.key)
    assert again.rate(screen).status_code == 200
    second = again.get("screen/next").json()
    store.delete(study[0].id)
    problem(again.rate(second), 404, "the study was deleted")
    problem(again.get("screen/next"), 404, "the study was deleted")


def test_two_readers_at_once_keep_apart(store: RatingStore, study: tuple[Study, str]) -> None:
    one, two = Caller(store, study[1]), Caller(store, study[1])
    assert one.join() != two.join()
    one.rate(one.get("screen/next").json(), 5)
    assert two.get("screen/next").json()["position"] == 0
    assert two.get("screen/0").json()["answer"] is None


def test_the_scan_of_a_report_comes_with_the_readers_key_alone(
    store: RatingStore, chest: Path
) -> None:
    _, secret = store.create(design(chest))
    caller = Caller(store, secret)
    caller.join()
    assert caller.get("screen/0").json()["reference"] == "", "the scan is there"
    volume = caller.get("0/rad3d/volume")
    assert volume.status_code == 200
    assert caller.get("0/rad3d/geometry").json()["dims"] == [96, 96, 60]
    assert caller.get("1/rad3d/slice?plane=axial&index=5").headers["content-type"] == "image/jpeg"
    assert caller.get("0/rad3d/volume", secret).status_code == 404
    assert caller.get("99/rad3d/volume").status_code == 404


def test_a_scan_that_is_gone_is_told_in_a_sentence(store: RatingStore, tmp_path: Path) -> None:
    _, secret = store.create(design(tmp_path / "gone.nii.gz"))
    caller = Caller(store, secret)
    caller.join()
    answer = caller.get("0/rad3d/geometry")
    assert answer.status_code == 404
    assert "gone.nii.gz" not in answer.text


def test_where_ratings_would_be_lost_none_are_taken(
    store: RatingStore, study: tuple[Study, str]
) -> None:
    caller = Caller(store, study[1], NOT_KEPT)
    for answer in (caller.get("study"), caller.post("join", {}), caller.get("screen/next")):
        problem(answer, 503, "This Space cannot keep ratings")
    assert store.study(study[0].id).readers == 0


@pytest.mark.parametrize(
    ("env", "keeps"),
    [
        ({}, True),
        ({"SPACE_ID": "owner/app"}, False),
        ({"SPACE_ID": "owner/app", "RAD3D_RATINGS_DATASET": "owner/ratings"}, True),
        ({"SPACE_ID": "owner/app", "RAD3D_RATINGS_FILE": "/data/readers.sqlite"}, True),
    ],
)
def test_a_space_keeps_ratings_only_where_its_operator_provides_for_it(
    env: dict[str, str], keeps: bool
) -> None:
    assert Settings.from_env(env).keeps_ratings == keeps


def test_the_file_lies_where_the_operator_says(tmp_path: Path) -> None:
    settings = replace(Settings(), runs_dir=tmp_path)
    assert settings.ratings_path == tmp_path / "readers.sqlite"
    named = replace(settings, ratings_file=str(tmp_path / "other" / "r.sqlite"))
    assert named.ratings_path == tmp_path / "other" / "r.sqlite"


def test_a_rate_limit_gives_back_over_a_minute() -> None:
    from rad3d.server.rate import RateLimit

    now = [0.0]
    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    limit = RateLimit(3, clock)
    assert [limit.spend("a") for _ in range(4)] == [True, True, True, False]
    assert limit.spend("b"), "another client has tokens of its own"
    now[0] = 20.0
    assert [limit.spend("a") for _ in range(2)] == [True, False]
