"""Each client has its share of the models and of the queue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rad3d.core.errors import BadRequest
from rad3d.server.queue import ReportQueue, Ticket


def test_who_sends_many_leaves_the_next_place_to_who_sends_one() -> None:
    turns = ReportQueue(places=2, most_waiting=32)
    many = [turns.join("192.0.2.1") for _ in range(20)]
    one = turns.join("192.0.2.2")
    assert one.ahead == 0
    many[0].leave()
    assert one.ready
    assert not any(turn.ready for turn in many[2:])


def test_34_sessions_of_one_client_do_not_fill_the_queue() -> None:
    turns = ReportQueue(places=2, most_waiting=32)
    many = [turns.join("192.0.2.1") for _ in range(34)]
    with pytest.raises(BadRequest) as refused:
        turns.join("192.0.2.1")
    assert refused.value.code == "queue_full"
    turns.join("192.0.2.2")
    assert turns.waiting == 32
    with pytest.raises(BadRequest) as displaced:
        many[-1].ready  # noqa: B018
    assert displaced.value.code == "queue_full"
    assert not many[-2].ready, "the others keep their place"


def test_of_clients_with_one_turn_each_none_is_displaced() -> None:
    turns = ReportQueue(places=1, most_waiting=3)
    for client in ("a", "b", "c", "d"):
        turns.join(client)
    for newcomer in ("e", "a", ""):
        with pytest.raises(BadRequest):
            turns.join(newcomer)


def test_a_turn_is_overdue_only_while_somebody_waits() -> None:
    now = 0.0
    turns = ReportQueue(places=1, most_waiting=3, clock=lambda: now)
    first = turns.join("a")
    now = 700.0
    assert not first.is_overdue(600)
    second = turns.join("b")
    assert first.is_overdue(600)
    assert not second.is_overdue(600)


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.booleans()), max_size=60))
def test_the_queue_stays_within_its_bounds_and_serves_everybody(
    steps: list[tuple[str, bool]],
) -> None:
    turns = ReportQueue(places=2, most_waiting=4)
    held: list[Ticket] = []
    for client, leaves in steps:
        if leaves and held:
            held.pop(0).leave()
        else:
            try:
                held.append(turns.join(client))
            except BadRequest:
                assert turns.waiting == 4
        held = [turn for turn in held if not turn.displaced]
        assert turns.running == min(2, len(held))
        assert turns.waiting == len(held) - turns.running <= 4
        waiting = [turn for turn in held if not turn.ready]
        assert sorted(turn.ahead for turn in waiting) == list(range(len(waiting)))
