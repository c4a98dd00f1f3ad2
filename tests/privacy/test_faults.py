"""What breaks around the app is said, the rest goes on, and no finished result is lost."""

from __future__ import annotations

import contextlib
import gc
import resource
import shutil
import signal
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browser.fakes import FakeService, sample_card
from browser.launch import running_app
from tabs import Tab, eventually
from tiny_models import CountingEncoder, FakeEncoderStore, save_shipped, volume

import rad3d.ui.page as page
from rad3d.core.edits import Edits
from rad3d.core.errors import BadRequest, CorruptWeights, DiskFull
from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent, Event, GenerationOptions
from rad3d.model.variants.variant import PROJECTOR_FILE, variant_directory
from rad3d.server import uploads
from rad3d.server.queue import ReportQueue
from rad3d.service.gallery import SampleCard
from rad3d.service.service import Service
from rad3d.service.sessions import Session
from rad3d.volume.load import read_volume

pytestmark = pytest.mark.process


@contextlib.contextmanager
def full_disk(after_bytes: int) -> Iterator[None]:
    """The system refuses to write a file beyond a size, as it does where a disk is full."""
    earlier = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, earlier)


# -- disk ----------------------------------------------------------------------------------------


def test_an_upload_to_a_full_disk_is_refused_with_the_reason_and_leaves_nothing(
    chest: Path, tmp_path: Path
) -> None:
    with running_app(FakeService(), tmp_path, max_upload_mb=4) as url, Tab(url) as tab:
        with full_disk(50_000), chest.open("rb") as stream:
            answer = tab.client.post(f"{tab.api}/upload", files={"files": stream})
        assert answer.status_code == 507
        assert "disk" in answer.text
        assert list(uploads.folder().iterdir()) == []
        assert tab.call("open_scan", tab.upload(chest))["shape"] == [96, 96, 60]


def test_a_full_disk_while_unpacking_does_not_blame_the_zip(chest: Path, tmp_path: Path) -> None:
    path = tmp_path / "scan.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.write(chest, "scan.nii.gz")
    with full_disk(10_000), pytest.raises(DiskFull, match="disk"):
        read_volume(path)
    assert read_volume(path).shape == (96, 96, 60)


def test_folders_that_a_cleaner_removed_come_back(
    chest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped = tmp_path / "scan.zip"
    with zipfile.ZipFile(zipped, "w") as out:
        out.write(chest, "scan.nii.gz")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with running_app(FakeService(), tmp_path) as url, Tab(url) as tab:
        tab.call("open_scan", tab.upload(chest))
        value = tab.upload(chest)
        shutil.rmtree(uploads.folder())
        with pytest.raises(RuntimeError, match="Upload it again"):
            tab.call("open_scan", value)
        assert tab.call("open_scan", tab.upload(zipped))["shape"] == [96, 96, 60]


# -- models --------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    save_shipped(folder, modes=("v3", "linear"))
    return folder


def service_of(models: Path) -> tuple[Service, FakeEncoderStore, Session]:
    """A service with an open scan."""
    settings = Settings(models_dir=models)
    store = FakeEncoderStore(settings, CountingEncoder())
    service = Service(settings, store, models)
    session = service.sessions.new()
    service.sessions.open(session, volume(1))
    return service, store, session


def write(service: Service, session: Session, variant: str) -> str:
    options = GenerationOptions(max_new_tokens=5)
    *_, last = service.generate(session, variant, options, threading.Event())
    assert isinstance(last, DoneEvent)
    return last.report.text


def test_a_corrupt_weight_file_is_named_and_the_other_models_go_on(models: Path) -> None:
    path = variant_directory(models, "phantom-s/v3") / PROJECTOR_FILE
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    service, _, session = service_of(models)
    with pytest.raises(CorruptWeights) as caught:
        write(service, session, "phantom-s/v3")
    assert PROJECTOR_FILE in str(caught.value)
    assert write(service, session, "phantom-s/linear")


@pytest.mark.parametrize("death", [MemoryError, RuntimeError, SystemExit, KeyboardInterrupt])
def test_a_report_whose_worker_dies_frees_its_place_and_the_next_one_is_written(
    death: type[BaseException], models: Path
) -> None:
    """Models run in this process: their worker is a thread, and this is how one ends."""
    service, store, session = service_of(models)
    encode = store.fake.encode

    def dies(values: Any) -> Any:
        store.fake.encode = encode  # type: ignore[method-assign]
        raise death("no more")

    store.fake.encode = dies  # type: ignore[method-assign]
    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever it becomes on its way
        write(service, session, "phantom-s/v3")
    assert session.running == 0
    assert write(service, session, "phantom-s/v3")


class DyingService(FakeService):
    """Its first report dies in its worker."""

    def __init__(self, cards: tuple[SampleCard, ...], death: BaseException) -> None:
        super().__init__(cards, seconds_per_word=0.002)
        self.deaths = [death]

    def generate(
        self,
        session: Session,
        variant_id: str,
        options: GenerationOptions,
        cancel: threading.Event,
        insist: bool = False,
        edited: Edits | None = None,
    ) -> Iterator[Event]:
        """Dies once."""
        if self.deaths:
            raise self.deaths.pop()
        yield from super().generate(session, variant_id, options, cancel, insist, edited)


@pytest.mark.parametrize(
    ("death", "said"),
    [
        (MemoryError(), "no memory"),
        (OSError(28, "No space left on device"), "disk is full"),
        (RuntimeError("DOE^JANE"), "Something went wrong"),
    ],
)
def test_the_app_says_what_happened_and_writes_the_next_report(
    death: BaseException, said: str, chest: Path, tmp_path: Path
) -> None:
    service = DyingService((sample_card("one", "One", "A chest", chest),), death)
    with running_app(service, tmp_path) as url, Tab(url) as tab:
        tab.call("open_sample", "one")
        with pytest.raises(RuntimeError, match=said) as caught:
            tab.call("write_report", "phantom-l/v3", {})
        assert "JANE" not in str(caught.value)
        assert tab.call("write_report", "phantom-l/v3", {})["event"] == "done"


# -- the queue -----------------------------------------------------------------------------------


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_turns_are_given_in_order_and_the_wait_is_told() -> None:
    clock = Clock()
    turns = ReportQueue(places=1, most_waiting=3, clock=clock)
    first, second, third = turns.join(), turns.join(), turns.join()
    assert [t.ready for t in (first, second, third)] == [True, False, False]
    assert str(second) == "Waiting for a free model: you are next", "nothing is known yet"
    clock.now += 10
    first.leave()
    assert second.ready
    fourth = turns.join()
    assert (third.ahead, fourth.ahead) == (0, 1)
    assert (third.seconds, fourth.seconds) == (10, 20)
    clock.now += 4
    assert (third.seconds, fourth.seconds) == (6, 16)
    assert str(fourth) == "Waiting for a free model: 1 before you, about 16 s"
    third.leave()
    second.leave()
    second.leave()
    assert fourth.ready
    assert (turns.running, turns.waiting) == (1, 0)


def test_a_full_queue_is_a_clear_refusal_and_a_place_that_frees_up_is_taken() -> None:
    turns = ReportQueue(places=1, most_waiting=1)
    running, waiting = turns.join(), turns.join()
    with pytest.raises(BadRequest, match="queue is full: 1") as caught:
        turns.join()
    assert caught.value.code == "queue_full"
    waiting.leave()
    assert not turns.join().ready
    running.leave()


def test_in_the_app_a_burst_is_refused_and_those_who_leave_free_their_place(
    chest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MODEL_PLACES", 1)
    cards = (sample_card("one", "One", "A chest", chest),)
    service = FakeService(cards, seconds_per_word=30.0)  # nobody waits for it: all are cancelled
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(running_app(service, tmp_path, queue_size=1))
        tabs = [stack.enter_context(Tab(url)) for _ in range(3)]
        for tab in tabs:
            tab.call("open_sample", "one")
        writing = tabs[0].events("write_report", "phantom-l/v3", {})
        assert "Reading the scan" in _stage(writing)
        queued = tabs[1].events("write_report", "phantom-l/v3", {})
        assert "you are next" in _stage(queued)
        with pytest.raises(RuntimeError, match="queue is full"):
            tabs[2].call("write_report", "phantom-l/v3", {})
        tabs[0].close()  # the tab that holds the model is closed
        assert "Reading the scan" in _stage(queued)


def _stage(events: Iterator[dict[str, Any]]) -> str:
    """The next stage; from the second on, Gradio sends what has changed."""
    for event in events:
        if event["msg"] == "process_generating":
            return str(event["output"]["data"][0])
    raise AssertionError("no stage arrived")


def test_a_closed_tab_stops_the_model_and_ends_the_session(chest: Path, tmp_path: Path) -> None:
    service = FakeService((sample_card("one", "One", "A chest", chest),), seconds_per_word=30.0)
    with running_app(service, tmp_path) as url:
        threads = threading.active_count()
        with Tab(url) as tab:
            tab.call("open_sample", "one")
            assert _stage(tab.events("write_report", "phantom-l/v3", {}))
            assert service.open_sessions
        assert eventually(lambda: not service.open_sessions)
        assert eventually(lambda: threading.active_count() <= threads + 8)


def test_the_page_is_served_while_a_client_sends_nonsense(tmp_path: Path) -> None:
    with running_app(FakeService(), tmp_path) as url:
        for body in (b"", b"\0" * 1000, b"--b\r\n", b"x" * 10_000):
            for kind in ("multipart/form-data; boundary=b", "multipart/form-data", "text/plain"):
                headers = {"Content-Type": kind}
                answer = httpx.post(f"{url}/gradio_api/upload", content=body, headers=headers)
                assert answer.status_code in (200, 400), (body[:10], kind)
                assert answer.status_code == 400 or answer.json() == []
        assert httpx.get(url).status_code == 200
        assert list(uploads.folder().iterdir()) == []


def test_what_a_full_disk_cut_short_gives_its_room_back_at_once(
    chest: Path, tmp_path: Path
) -> None:
    """A deleted file takes its room until it is closed, which a collector may do much later."""
    with running_app(FakeService(), tmp_path, max_upload_mb=4) as url, Tab(url) as tab:
        gc.disable()
        try:
            with full_disk(50_000), chest.open("rb") as stream:
                answer = tab.client.post(f"{tab.api}/upload", files={"files": stream})
            assert answer.status_code == 507
            opened = []
            for link in Path("/proc/self/fd").iterdir():
                with contextlib.suppress(OSError):  # closed meanwhile
                    opened.append(str(link.readlink()))
            assert not [name for name in opened if str(uploads.folder()) in name]
        finally:
            gc.enable()
