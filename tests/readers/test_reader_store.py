"""Ratings in SQLite: what is confirmed is kept, and nobody's answers reach another reader's."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from study_of_readers import answer_to, small_design

from rad3d.core.errors import BadRequest
from rad3d.readers.store import MAX_READERS, RatingStore
from rad3d.readers.types import MAX_COMMENT, MAX_SECONDS, Answer, Screen, Study


@pytest.fixture
def store(tmp_path: Path) -> RatingStore:
    return RatingStore(tmp_path / "runs" / "readers.sqlite")


def joined(store: RatingStore, study: Study) -> int:
    return store.reader(study, store.join(study))


def code_of(error: pytest.ExceptionInfo[BadRequest]) -> str:
    return error.value.code


def test_a_link_opens_its_study_alone_and_a_new_link_ends_the_old_one(store: RatingStore) -> None:
    one, secret = store.create(small_design())
    two, other = store.create(small_design())
    assert store.by_link(secret).id == one.id
    assert store.by_link(other).id == two.id
    fresh = store.new_link(one.id)
    assert store.by_link(fresh).id == one.id
    for wrong in (secret, "", "x" * 32, "é" * 10, "\ud800", fresh[:-1]):
        with pytest.raises(BadRequest) as error:
            store.by_link(wrong)
        assert code_of(error) == "no_study"


def test_the_file_is_its_owners_alone_and_holds_no_secret(store: RatingStore) -> None:
    study, secret = store.create(small_design())
    code = store.join(study)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    held = store.path.read_bytes()
    assert secret.encode() not in held
    assert code.encode() not in held
    assert code.replace("-", "").encode() not in held


def test_a_code_is_read_as_people_type_it_and_opens_no_other_study(store: RatingStore) -> None:
    study, _ = store.create(small_design())
    other, _ = store.create(small_design())
    code = store.join(study)
    assert store.reader(study, f" {code.lower().replace('-', ' ')} ") == 1
    for where, wrong in ((other, code), (study, code[:-1]), (study, ""), (study, "'; --")):
        with pytest.raises(BadRequest) as error:
            store.reader(where, wrong)
        assert code_of(error) == "no_reader"


def test_an_answer_is_kept_as_given_and_may_be_repeated_or_changed(store: RatingStore) -> None:
    study, _ = store.create(small_design())
    reader = joined(store, study)
    first = store.screens(study, reader)[0]
    given = answer_to(first, 4, comment="Left, not right; “why”?")
    saved = store.save(study, reader, 0, given, 0)
    assert saved.answer == given
    assert store.save(study, reader, 0, given, 0) == saved  # the same request once more
    changed = store.save(study, reader, 0, answer_to(first, 2, seconds=3.0), saved.changes)
    assert changed.changes == 2
    assert changed.answer is not None
    assert changed.answer.seconds == pytest.approx(8.0), "time in view adds up"
    assert store.screens(study, reader)[0] == changed


def test_of_two_tabs_the_second_is_told_and_overwrites_nothing(store: RatingStore) -> None:
    study, _ = store.create(small_design())
    reader = joined(store, study)
    screen = store.screens(study, reader)[0]
    store.save(study, reader, 0, answer_to(screen, 5), 0)
    with pytest.raises(BadRequest, match="another tab") as error:
        store.save(study, reader, 0, answer_to(screen, 1), 0)
    assert code_of(error) == "conflict"
    kept = store.screens(study, reader)[0].answer
    assert kept
    assert kept.scores["accuracy"] == 5


@pytest.mark.parametrize("position", [-1, 8, 10**30])
def test_a_report_that_is_not_in_the_study_cannot_be_rated(
    store: RatingStore, position: int
) -> None:
    study, _ = store.create(small_design())
    reader = joined(store, study)
    with pytest.raises(BadRequest) as error:
        store.save(study, reader, position, answer_to(Screen(0, 0, 0, 0)), 0)
    assert code_of(error) == "bad_answer"


def test_a_preference_is_given_where_there_are_two_reports_and_nowhere_else(
    store: RatingStore,
) -> None:
    study, _ = store.create(small_design())
    reader = joined(store, study)
    first, second = store.screens(study, reader)[:2]
    for screen, preference in ((first, "this"), (second, "")):
        with pytest.raises(BadRequest):
            store.save(study, reader, screen.position, answer_to(screen, preference=preference), 0)
    assert store.ratings(study) == ()


def test_what_is_deleted_while_a_reader_reads_takes_nothing_more(store: RatingStore) -> None:
    study, secret = store.create(small_design())
    reader = joined(store, study)
    store.save(study, reader, 0, answer_to(store.screens(study, reader)[0]), 0)
    store.delete(study.id)
    calls = (
        lambda: store.save(study, reader, 1, answer_to(Screen(1, 0, 1, 0)), 0),
        lambda: store.screens(study, reader),
        lambda: store.case(study, 0),
        lambda: store.join(study),
        lambda: store.by_link(secret),
    )
    for call in calls:
        with pytest.raises(BadRequest) as error:
            call()
        assert code_of(error) == "no_study"
    with sqlite3.connect(store.path) as base:
        for table in ("study", "item", "reader", "screen"):
            assert base.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,)


def test_the_link_alone_fills_no_disk(store: RatingStore) -> None:
    study, _ = store.create(small_design(cases=1, per_case=1))
    for _ in range(MAX_READERS):
        store.join(study)
    with pytest.raises(BadRequest, match="readers already"):
        store.join(study)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FORGED = JUNK | st.fixed_dictionaries({
    "scores": JUNK | st.fixed_dictionaries({"accuracy": JUNK, "language": JUNK, "harm": JUNK}),
    "preference": JUNK, "comment": JUNK, "seconds": JUNK,
})  # fmt: skip


@pytest.mark.slow
@given(FORGED)
def test_a_forged_answer_is_refused_in_a_sentence_or_is_a_right_one(sent: object) -> None:
    refused = ""
    try:
        answer = Answer.from_plain(sent)
    except BadRequest as error:
        refused = error.code
    if refused:
        assert refused == "bad_answer"
        return
    assert all(1 <= score <= 5 for score in answer.scores.values())
    assert 0 <= answer.seconds < float("inf")
    assert len(answer.comment) <= MAX_COMMENT


def test_text_that_no_file_could_hold_is_made_plain(store: RatingStore) -> None:
    study, _ = store.create(small_design())
    reader = joined(store, study)
    scores = {"accuracy": 1, "language": 1, "harm": 1}
    answer = Answer.from_plain({"scores": scores, "comment": "a\0b\ud800", "seconds": 1e300})
    saved = store.save(study, reader, 0, answer, 0)
    assert store.screens(study, reader)[0] == saved
    assert saved.answer
    assert saved.answer.comment == "ab?"
    assert saved.answer.seconds == MAX_SECONDS


def test_readers_at_once_get_numbers_orders_and_answers_of_their_own(store: RatingStore) -> None:
    study, _ = store.create(small_design(cases=3))
    errors: list[BaseException] = []

    def read(score: int) -> None:
        try:
            reader = joined(store, study)
            for screen in store.screens(study, reader):
                answer = answer_to(screen, score, comment=str(reader))
                store.save(study, reader, screen.position, answer, 0)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(score,)) for score in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    ratings = store.ratings(study)
    assert len(ratings) == 5 * study.total
    by_reader = {r: {x.answer.scores["accuracy"] for x in ratings if x.reader == r} for r in
                 range(1, 6)}  # fmt: skip
    assert sorted(by_reader.values(), key=min) == [{1}, {2}, {3}, {4}, {5}]
    assert all(x.answer.comment == str(x.reader) for x in ratings)


KILLED = """
import sys, os, signal
from pathlib import Path
sys.path[:0] = {paths!r}
from study_of_readers import answer_to, small_design
from rad3d.readers.store import RatingStore
store = RatingStore(Path({path!r}))
study, secret = store.create(small_design(cases=50))
reader = store.reader(study, store.join(study))
print(secret, flush=True)
for screen in store.screens(study, reader):
    store.save(study, reader, screen.position, answer_to(screen), 0)
    print(screen.position, flush=True)
"""


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 17, 60])
def test_what_was_confirmed_survives_kill_9(tmp_path: Path, after: int) -> None:
    path = tmp_path / "readers.sqlite"
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    code = KILLED.format(paths=paths, path=str(path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        secret = run.stdout.readline().strip()
        confirmed = [int(run.stdout.readline()) for _ in range(after)]
        run.kill()
        confirmed += [int(line) for line in run.stdout.read().split("\n")[:-1]]
    store = RatingStore(path)
    study = store.by_link(secret)
    kept = [rating.screen.position for rating in store.ratings(study)]
    assert kept[: len(confirmed)] == confirmed
    assert len(kept) <= len(confirmed) + 1, "at most the answer that was on its way"
    with sqlite3.connect(path) as base:
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_backup_is_whole_while_the_store_is_written_and_goes_on_by_itself(
    store: RatingStore, tmp_path: Path
) -> None:
    study, secret = store.create(small_design())
    reader = joined(store, study)
    screens = store.screens(study, reader)
    store.save(study, reader, 0, answer_to(screens[0]), 0)
    copy = tmp_path / "copy.sqlite"
    store.backup(copy)
    store.save(study, reader, 1, answer_to(screens[1]), 0)
    restored = RatingStore(copy)
    assert len(restored.ratings(restored.by_link(secret))) == 1
    restored.save(study, reader, 1, answer_to(screens[1], 1), 0)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert list(tmp_path.glob(".*.part")) == []
    with pytest.raises(BadRequest, match="a file of its own"):
        store.backup(store.path)
    with pytest.raises(BadRequest, match="There is no file"):
        RatingStore(tmp_path / "none.sqlite").backup(copy)


def test_a_file_that_is_no_store_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "readers.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    for call in (RatingStore(path).studies, lambda: RatingStore(path).create(small_design())):
        with pytest.raises(BadRequest, match="cannot be used") as error:
            call()
        assert code_of(error) == "ratings_unusable"
    assert RatingStore(tmp_path / "absent.sqlite").studies() == ()
    assert not (tmp_path / "absent.sqlite").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"systems": ("a",)}, {"systems": ("a", "a")}, {"systems": tuple("abcde")},
        {"cases": ()}, {"per_case": 0}, {"per_case": 4}, {"seed": -1},
    ],
)  # fmt: skip
def test_a_design_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        replace(small_design(), **wrong)  # type: ignore[arg-type]


class Sessions(RuleBasedStateMachine):
    """Readers with tabs that go back and forth, save, save twice and come late; servers restart."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "readers.sqlite"
        self.store = RatingStore(self.path)
        self.study, self.secret = self.store.create(small_design(cases=2))
        self.codes: list[str] = []
        self.seen: dict[tuple[int, int], Screen] = {}  # (reader, tab) -> what the tab shows
        self.model: dict[tuple[int, int], tuple[int, int]] = {}  # -> (score, changes)

    @precondition(lambda self: len(self.codes) < 3)
    @rule()
    def join(self) -> None:
        self.codes.append(self.store.join(self.study))

    @rule()
    def restart(self) -> None:
        self.store = RatingStore(self.path)
        self.study = self.store.by_link(self.secret)

    @precondition(lambda self: self.codes)
    @rule(who=st.integers(0, 2), tab=st.integers(0, 1), position=st.integers(0, 3))
    def show(self, who: int, tab: int, position: int) -> None:
        reader = self.store.reader(self.study, self.codes[who % len(self.codes)])
        self.seen[reader, tab] = self.store.screens(self.study, reader)[position]

    @precondition(lambda self: self.seen)
    @rule(which=st.integers(0, 5), score=st.integers(1, 3))
    def save(self, which: int, score: int) -> None:
        keys = sorted(self.seen)
        reader, tab = keys[which % len(keys)]
        screen = self.seen[reader, tab]
        place = (reader, screen.position)
        stored, changes = self.model.get(place, (0, 0))
        answer = answer_to(screen, score)
        refused = ""
        try:
            saved = self.store.save(self.study, reader, screen.position, answer, screen.changes)
        except BadRequest as error:
            refused = error.code
        if refused:
            assert refused == "conflict"
            assert screen.changes != changes
            assert stored != score
            return
        if stored != score:
            assert screen.changes == changes
            self.model[place] = (score, changes + 1)
        self.seen[reader, tab] = saved

    @invariant()
    def nothing_else_is_kept(self) -> None:
        kept = {
            (r.reader, r.screen.position): (r.answer.scores["accuracy"], r.screen.changes)
            for r in self.store.ratings(self.study)
        }
        assert kept == self.model

    def teardown(self) -> None:
        self.folder.cleanup()


Sessions.TestCase.settings = settings(max_examples=40, deadline=None)
TestSessions = pytest.mark.slow(Sessions.TestCase)
