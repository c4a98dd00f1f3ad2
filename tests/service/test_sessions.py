"""Sessions are found by token and by tab, bounded, and freed with everything that is theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from browser.fakes import fake_diagnosis
from tiny_models import volume

from rad3d.core.errors import BadRequest
from rad3d.core.settings import Settings
from rad3d.core.types import GenerationOptions, Report, Volume
from rad3d.service.service import Service
from rad3d.service.sessions import Session, SessionStore


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_idle_sessions_end_and_busy_ones_do_not(clock: Clock) -> None:
    freed: list[str] = []
    store = SessionStore(60, 10**9, freed.append, clock)
    idle, busy, used = store.new(), store.new(), store.new()
    for seed, session in enumerate((idle, busy, used)):
        store.open(session, volume(seed))
    with store.using(busy):
        clock.now = 50
        assert store.touch(used)
        clock.now = 70
        assert store.find(idle.token) is None
        assert idle.volume is None
        assert freed == [volume(0).sha256]
        assert len(store) == 2
    clock.now = 131
    store.sweep()
    assert len(store) == 0


def test_open_scans_are_bounded_and_the_longest_unused_is_closed(clock: Clock) -> None:
    one = volume(0).hu.nbytes
    store = SessionStore(1e9, 2 * one, lambda _: None, clock)
    sessions = [store.new() for _ in range(3)]
    for i, session in enumerate(sessions):
        clock.now = i
        store.open(session, volume(i))
    assert [session.volume is None for session in sessions] == [True, False, False]
    assert store.nbytes == 2 * one
    with pytest.raises(BadRequest, match="may have been closed"), store.using(sessions[0]):
        pass


def test_scan_that_is_being_reported_on_is_not_closed(clock: Clock) -> None:
    store = SessionStore(1e9, volume(0).hu.nbytes, lambda _: None, clock)
    busy, other = store.new(), store.new()
    store.open(busy, volume(0))
    with store.using(busy):
        store.open(other, volume(1))
        assert busy.volume is not None


@pytest.fixture
def store(clock: Clock) -> SessionStore:
    return SessionStore(60, 10**9, lambda _: None, clock)


class Closed:
    """A part of a session that knows whether it was closed."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_every_tab_has_its_own_session_and_a_closed_one_is_freed(store: SessionStore) -> None:
    one, two = store.of_tab("a"), store.of_tab("b")
    assert one.token != two.token
    assert store.of_tab("a") is one
    assert store.find(one.token) is one
    stop, part = one.arm(), one.part("page", Closed)
    store.end_tab("a")
    assert stop.is_set()
    assert part.is_closed
    assert store.find(one.token) is None
    assert len(store) == 1
    assert store.of_tab("a") is not one
    with pytest.raises(BadRequest):
        store.of_tab(None)


def test_a_tab_that_asks_twice_at_once_has_one_session(store: SessionStore) -> None:
    sessions: list[Session] = []
    threads = [
        threading.Thread(target=lambda: sessions.append(store.of_tab("a"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(sessions)) == len(store) == 1


def test_what_a_session_is_given_after_its_end_is_closed_and_stopped_at_once(
    store: SessionStore,
) -> None:
    session = store.of_tab("a")
    store.end(session)
    assert session.part("page", Closed).is_closed
    assert session.arm().is_set()
    with pytest.raises(BadRequest, match="deleted while it was being read"):
        store.open(session, volume(0))
    assert session.volume is None


def test_a_run_that_waits_can_be_stopped_and_is_taken_up_only_once(store: SessionStore) -> None:
    session = store.of_tab("a")
    first = session.arm()
    session.offer(first)
    assert session.stop(), "it had not begun"
    assert first.is_set()
    assert session.claim() is None
    second = session.arm()
    session.offer(second)
    assert session.claim() is second
    assert session.claim() is None
    assert session.is_latest(second)
    assert not session.stop(), "it had begun: it answers itself"
    assert second.is_set()
    store.open(session, volume(0))
    assert not session.is_latest(second), "it is not about this scan"


def test_a_session_that_is_ended_for_being_idle_is_renewed_when_a_scan_is_opened(
    store: SessionStore, clock: Clock
) -> None:
    stale = store.of_tab("a")
    clock.now = 61.0
    session = store.of_tab("a")
    assert stale.ended
    assert session is not stale
    assert store.open(session, volume(0)).sha256 == volume(0).sha256


@pytest.fixture
def service() -> Service:
    return Service(Settings())


def test_of_two_scans_of_a_tab_the_one_asked_for_last_stays_open(service: Service) -> None:
    order: list[str] = []
    first_reads, may_end = threading.Event(), threading.Event()

    def slow() -> Volume:
        first_reads.set()
        assert may_end.wait(120)
        order.append("first")
        return volume(0)

    def quick() -> Volume:
        order.append("second")
        return volume(1)

    def opens(tab: str, read: Callable[[], Volume]) -> threading.Thread:
        session = service.sessions.of_tab(tab)
        thread = threading.Thread(target=service.open, args=(session, read))
        thread.start()
        return thread

    first = opens("a", slow)
    assert first_reads.wait(120)
    second = opens("a", quick)
    opens("b", lambda: volume(2)).join(120)  # another visitor does not wait
    assert order == []
    may_end.set()
    first.join(120)
    second.join(120)
    assert order == ["first", "second"]
    assert service.sessions.of_tab("a").volume is not None
    assert service.sessions.of_tab("a").volume.sha256 == volume(1).sha256  # type: ignore[union-attr]


def test_a_scan_deleted_while_it_was_read_does_not_come_back(service: Service) -> None:
    session = service.sessions.of_tab("a")

    def read() -> Volume:
        service.sessions.end_tab("a")
        return volume(0)

    with pytest.raises(BadRequest, match="deleted while it was being read"):
        service.open(session, read)
    assert session.volume is None
    assert service.sessions.nbytes == 0


def written(text: str) -> Report:
    options = GenerationOptions()
    return Report(text, "phantom-l/v3", fake_diagnosis(), options, "cancelled", 4, {"total": 0.1})


def test_another_press_cannot_take_up_a_run_before_the_page_says_that_it_waits() -> None:
    session = Session()
    first = session.arm()
    second = session.arm()
    session.offer(first)  # late: something else was asked for since
    assert session.claim() is None
    session.offer(second)
    assert session.claim() is second


def test_a_report_that_was_stopped_for_a_later_one_is_not_kept() -> None:
    session, scan = Session(), volume(1)
    session.set_volume(scan)
    first = session.arm()
    second = session.arm()
    session.stop()
    session.keep(written("earlier"), scan, first)
    assert session.report is None
    session.keep(written("later"), scan, second)
    assert session.report is not None
    assert session.report.text == "later"
