"""Whatever a person does, and however late an answer arrives, the page never mixes two scans.

The handlers run as they do below Gradio: in threads and in an event loop at once, answers delivered
in any order, the last answer of every stream a second time when it ends.
"""

from __future__ import annotations

import asyncio
import random
import runpy
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from browser.fakes import FakeService, fake_diagnosis

from rad3d.core.edits import Edits, with_edits
from rad3d.core.errors import BadVolume
from rad3d.core.types import (
    DiagnosisEvent,
    DoneEvent,
    Event,
    GenerationOptions,
    Note,
    Report,
    StageEvent,
    TextEvent,
    Volume,
)
from rad3d.server.queue import ReportQueue
from rad3d.service.sessions import Session
from rad3d.ui import page_state
from rad3d.ui import queued as waiting
from rad3d.ui.page_state import PageState
from rad3d.ui.report import views
from rad3d.ui.report.chart import diagnosis_chart
from rad3d.ui.report.generation_fields import OPTION_NAMES
from rad3d.ui.report.handlers import Handlers

N_SCHEDULES, AT_ONCE = 300, 20
TAB: Any = SimpleNamespace(session_hash="tab", cookies={})
OPTIONS = [asdict(GenerationOptions())[name] for name in OPTION_NAMES]
SCANS = ("scan-A", "scan-B", "scan-C")
OF_SCAN = ("notes", "truth", "reference", "report", "verdicts", "progress", "compare")


class HastyService(FakeService):
    """Opens and writes within milliseconds; every text names the scan that it is about."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    def pause(self) -> None:
        """For as long as a thread may be held up."""
        time.sleep(self._chance.choice((0.0, 0.0, 0.0005, 0.002)))

    def scan(self, name: str) -> Volume:
        """A scan of this name; one called bad is refused."""
        self.pause()
        if name == "bad":
            raise BadVolume("This is no scan.")
        number = float(SCANS.index(name))
        return Volume.from_array(np.full((2, 2, 2), number, np.int16), np.eye(4), name)

    def open(self, session: Session, read: Callable[[], Volume]) -> Volume:
        self.pause()
        volume = super().open(session, read)
        self.pause()
        return volume

    def model_view(self, session: Session, encoder_id: str = "") -> Volume:
        with self.sessions.using(session) as volume:
            self.pause()
            note = Note("info", "resampled", f"Resampled: {volume.name}.")
            return Volume(volume.hu, volume.affine, volume.sha256, volume.name, (note,))

    def write(
        self,
        volume: Volume,
        variant_id: str,
        options: GenerationOptions,
        cancel: threading.Event,
        edited: Edits | None = None,
    ) -> Iterator[Event]:
        diagnosis = with_edits(fake_diagnosis(), edited or {})
        yield StageEvent(f"Reading {volume.name}", 0.1)
        self.pause()
        yield DiagnosisEvent(diagnosis, None, (Note("warning", "scan", f"Of {volume.name}."),))
        for n in range(4):
            self.pause()
            if cancel.is_set():
                break
            yield TextEvent(f"Findings: of {volume.name}", n)
        yield DoneEvent(
            Report(
                f"Findings: of {volume.name}", variant_id, diagnosis, options,
                "cancelled" if cancel.is_set() else "end", 4, {"total": 0.1},
                provenance={"volume": volume.sha256},
                notes=(Note("warning", "scan", f"Of {volume.name}."),),
            )
        )  # fmt: skip


class Visitor:
    """One browser tab: what it does, what arrives, and what it shows."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.service = chance, HastyService(chance)
        self.handlers = Handlers(self.service, ReportQueue(2, 9))
        self.arrived: list[dict[str, Any]] = []

    @property
    def shown(self) -> dict[str, Any]:
        """As static/page_state.js chooses it."""
        newest: dict[str, Any] = max(self.arrived, key=lambda answer: answer["serial"])
        return dict(newest["values"])

    async def _late(self, answer: dict[str, Any]) -> None:
        await asyncio.sleep(self.chance.choice((0.0, 0.0, 0.001, 0.006)))
        self.arrived.append(answer)

    async def _answered(self, handler: Callable[..., dict[str, Any]], *values: Any) -> None:
        await self._late(await asyncio.to_thread(handler, *values, TAB))

    async def _streamed(self, stream: AsyncIterator[dict[str, Any]]) -> None:
        deliveries, last = [], None
        async for last in stream:
            deliveries.append(asyncio.create_task(self._late(last)))
        if last is not None:
            deliveries.append(asyncio.create_task(self._late(last)))  # as Gradio does
        await asyncio.gather(*deliveries)

    async def open(self, name: str) -> None:
        """Upload a scan or choose a sample."""
        await self._answered(
            lambda request: self.handlers.open(
                request,
                lambda session: self.service.open(session, lambda: self.service.scan(name)),
                f"Truth of {name}.",
            )
        )
        await self._answered(self.handlers.describe, "phantom-l", "v3")

    async def generate(self) -> None:
        """Press Generate."""
        await self._answered(self.handlers.begin)
        generate: Any = self.handlers.generate
        await self._streamed(generate(TAB, "phantom-l", "v3", *OPTIONS, False))

    async def edit(self) -> None:
        """Press the button of the what-if panel; every third time there are no edits."""
        edits = self.chance.choice(({"Pleural effusion": 0.9}, {"Cardiomegaly": 0.0}, {}))
        pressed = SimpleNamespace(edits=edits)
        await self._answered(self.handlers.begin_edited, pressed)
        generate: Any = self.handlers.generate
        await self._streamed(generate(TAB, "phantom-l", "v3", *OPTIONS, False))

    async def compare(self) -> None:
        """Press the button of the comparison."""
        pressed = SimpleNamespace(variants=["phantom-l/v3", "phantom-l/v1"])
        await self._answered(self.handlers.begin_comparison, pressed)
        generate: Any = self.handlers.generate
        await self._streamed(generate(TAB, "phantom-l", "v3", *OPTIONS, False))

    async def act(self) -> None:
        """Do anything."""
        acts: list[Callable[[], Awaitable[None]]] = [
            *(lambda name=name: self.open(name) for name in (*SCANS, "bad")),  # type: ignore[misc]
            self.generate,
            self.generate,
            *[self.edit] * 4,
            *[self.compare] * 3,
            lambda: self._answered(self.handlers.cancel),
            lambda: self._answered(self.handlers.forget),
            lambda: self._answered(self.handlers.describe, "phantom-s", "v1"),
        ]
        await self.chance.choice(acts)()

    async def live(self) -> None:
        """Eight acts, most of them before the one before has been answered."""
        await self._answered(lambda request: self.handlers.start(request)[0])
        await self.open("scan-A")
        await self.generate()
        await self.edit()
        doing = []
        for _ in range(8):
            doing.append(asyncio.create_task(self.act()))
            await asyncio.sleep(self.chance.choice((0.0, 0.001, 0.008)))
        await asyncio.gather(*doing)


def scans_named(values: dict[str, Any]) -> set[str]:
    """The scans that anything on the page speaks of."""
    said = " ".join(str(values.get(name, "")) for name in OF_SCAN)
    return {name for name in SCANS if name in said}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that only takes time."""
    drawn = diagnosis_chart(fake_diagnosis())
    monkeypatch.setattr(views, "diagnosis_chart", lambda *_: drawn)
    monkeypatch.setattr(waiting, "SECONDS_BETWEEN_TEXTS", 0.0)
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.002)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_in_hundreds_of_random_orders_no_answer_mixes_two_scans_and_the_newest_is_the_truth() -> (
    None
):
    visitors = [Visitor(random.Random(seed)) for seed in range(N_SCHEDULES)]

    async def all_live() -> None:
        for some in range(0, N_SCHEDULES, AT_ONCE):
            await asyncio.gather(*(each.live() for each in visitors[some : some + AT_ONCE]))

    asyncio.run(all_live())
    answers = [str(answer["values"]) for visitor in visitors for answer in visitor.arrived]
    assert any("r3-compare" in answer for answer in answers), "some reports are of edits"
    assert any("r3-aligned" in answer for answer in answers), "some are compared to the end"
    for seed, visitor in enumerate(visitors):
        for answer in visitor.arrived:
            values = answer["values"]
            assert scans_named(values) <= {values.get("viewer", {}).get("name")}, seed
        shown, session = visitor.shown, visitor.service.sessions.of_tab("tab")
        volume = session.volume
        assert shown["viewer"]["name"] == (volume.name if volume else ""), seed
        assert shown["viewer"]["key"] == session.token, seed
        assert "<progress" not in shown["progress"], f"{seed}: nothing is at work any more"
        assert "<progress" not in shown["compare"]["html"], f"{seed}: no comparison either"
        assert not shown["compare"]["running"], seed
        assert bool(shown["compare"]["scan"]) == (volume is not None), seed
        assert (shown["generate"]["interactive"], shown["cancel"]["interactive"]) == (True, False)
        assert bool(shown["report"]["text"]) == (session.report is not None), seed
        edited = session.edited.diagnosis.edited if session.edited else {}
        assert ("r3-compare" in shown["report"]["html"]) == bool(edited), seed
        assert set(shown["what_if"].get("edits", {})) == set(edited), seed


def test_what_was_asked_for_last_stays_whichever_is_ready_first() -> None:
    page = PageState()
    first, second = page.now(), page.now()
    assert page.write({"list": "second", "case": "second"}, asked=second)
    assert page.write({"list": "first", "head": "first"}, asked=first)
    assert page.snapshot()["values"] == {"list": "second", "case": "second", "head": "first"}


def test_what_is_not_current_changes_nothing() -> None:
    page = PageState()
    page.write({"report": "B"})
    before = page.snapshot()
    assert not page.write({"report": "A"}, current=lambda: False)
    assert page.snapshot() == before


def test_the_state_of_a_session_that_has_ended_holds_nothing_and_takes_nothing() -> None:
    page = PageState()
    page.write({"report": "A"})
    page.close()
    page.write({"report": "A"})
    assert page.snapshot()["values"] == {}


def test_a_server_that_was_started_anew_is_believed_by_pages_that_stayed_open() -> None:
    before = PageState.now()
    anew = runpy.run_path(page_state.__file__)["PageState"]
    assert anew.now() > before


def test_a_scan_that_the_server_has_closed_or_forgotten_is_said_to_be_gone() -> None:
    service = FakeService()
    handlers = Handlers(service, ReportQueue(1, 4))
    assert handlers.start(TAB)[0]["values"]["notice"] == ""
    volume = Volume.from_array(np.zeros((2, 2, 2), np.int16), np.eye(4), "scan-A")
    handlers.open(TAB, lambda session: service.open(session, lambda: volume))
    service.sessions.of_tab("tab").set_volume(None)  # as for another visitor's scan
    shown = handlers.begin(TAB)["values"]
    assert "server has closed this scan" in shown["progress"]
    assert shown["viewer"]["name"] == "scan-A", "what is shown belongs together and stays"
    service.sessions.end_tab("tab")
    shown = handlers.begin(TAB)["values"]
    assert "session had ended" in shown["notice"]
    assert not shown["viewer"]["id"]
