"""The curator's page of the reader studies: for the owner alone, and everything it does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from browser.fake_evaluations import FakeEvaluations
from browser.fakes import FakeService
from starlette.applications import Starlette
from starlette.testclient import TestClient

from rad3d.readers.simulate import simulate
from rad3d.readers.store import RatingStore
from rad3d.server.owner import cookie_name
from rad3d.ui.studies import Studies

OWNER = "the-owners-secret"


@pytest.fixture
def store(tmp_path: Path) -> RatingStore:
    return RatingStore(tmp_path / "readers.sqlite")


def caller(store: RatingStore, cookie: str = OWNER, empty: bool = False) -> TestClient:
    service = FakeService()
    service.owner_secret = OWNER
    studies = Studies(service, FakeEvaluations(service, n=6, empty=empty), store)  # type: ignore[arg-type]
    cookies = {cookie_name(OWNER): cookie} if cookie else {}
    return TestClient(Starlette(routes=list(studies.routes())), cookies=cookies)


def made(client: TestClient, **values: Any) -> Any:
    form = {
        "run": "study", "systems": ["phantom-m/v1", "phantom-m/v3"], "set": "phantom-in",
        "cases": "4", "per_case": "2", "seed": "1", "title": "Chest <CTs>",
    }  # fmt: skip
    return client.post("/studies", content=urlencode(form | values, doseq=True))


@pytest.mark.parametrize("cookie", ["", "guess"])
def test_nobody_but_the_owner_sees_or_does_anything(store: RatingStore, cookie: str) -> None:
    study = simulate(store, readers=1, cases=2)
    client = caller(store, cookie)
    answers = [
        client.get("/studies"), made(client), client.post(f"/studies/{study.id}/link"),
        client.get(f"/studies/{study.id}/results"), client.get(f"/studies/{study.id}/ratings.csv"),
    ]  # fmt: skip
    for answer in answers:
        assert answer.status_code == 403
        assert "Only the owner" in answer.text
        assert study.title not in answer.text
    assert [each.id for each in store.studies()] == [study.id]


def test_the_owner_makes_a_study_and_gets_its_link_once(store: RatingStore) -> None:
    client = caller(store)
    answer = made(client)
    assert answer.status_code == 200
    secret = re.search(r"http://testserver/read#([\w-]+)", answer.text)
    assert secret
    study = store.by_link(secret[1])
    assert study.systems == ("phantom-m/v1", "phantom-m/v3")
    assert (study.cases, study.per_case, study.title) == (4, 2, "Chest <CTs>")
    assert "Chest <CTs>" not in answer.text, "it is escaped"
    assert secret[1] not in client.get("/studies").text
    again = client.post(f"/studies/{study.id}/link")
    fresh = re.search(r"/read#([\w-]+)", again.text)
    assert fresh
    assert store.by_link(fresh[1]).id == study.id
    assert '<base href="../../">' in again.text, "its links lead where those of /studies do"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"systems": ["phantom-m/v1"]}, "compares 2 to 4 systems"),
        ({"systems": ["phantom-m/v1", "none"]}, "no system called"),
        ({"run": "none"}, "no such run"),
        ({"set": "none"}, "no sample set called"),
        ({"cases": "many"}, "no whole number"),
        ({"cases": "0"}, "needs a case"),
        ({"seed": "-1"}, "seed must lie"),
    ],
)
def test_a_form_that_makes_no_sense_is_told_on_the_page(
    store: RatingStore, wrong: dict[str, Any], told: str
) -> None:
    answer = made(caller(store), **wrong)
    assert answer.status_code == 400
    assert told in answer.text
    assert "Make the study" in answer.text, "the form is there to try again"
    assert store.studies() == ()


def test_results_and_ratings_are_one_press_away_and_say_when_they_are_simulated(
    store: RatingStore,
) -> None:
    study = simulate(store, readers=2, cases=3)
    client = caller(store)
    assert "(simulated)" in client.get("/studies").text
    page = client.get(f"/studies/{study.id}/results")
    assert "SIMULATED" in page.text
    table = client.get(f"/studies/{study.id}/ratings.csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.text.splitlines()) == 1 + 2 * study.total
    assert client.get("/studies/none/results").status_code == 400


def test_without_an_evaluation_the_page_says_so(store: RatingStore) -> None:
    answer = caller(store, empty=True).get("/studies")
    assert answer.status_code == 200
    assert "There is no evaluation yet" in answer.text
