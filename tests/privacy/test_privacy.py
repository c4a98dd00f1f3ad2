"""What stays of a person: nothing on the disk, in memory, in the log, in what is written out."""

from __future__ import annotations

import contextlib
import gc
import gzip
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
import zipfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import CellType, FrameType
from typing import Any

import httpx
import nibabel as nib
import pytest
from browser.launch import running_app
from served import environment
from tabs import KEY, Tab, eventually
from tiny_models import CountingEncoder, FakeEncoderStore

import rad3d.server.access_control as guard
from rad3d.core.errors import BadRequest
from rad3d.core.settings import Settings
from rad3d.server import limits, uploads
from rad3d.server.workdir import WorkDir
from rad3d.service.service import Service
from rad3d.service.sessions import SessionStore
from rad3d.ui.messages import sentence
from rad3d.volume.load import read_volume

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parent.parent.parent
NAME = "DOE^JANE 1970.nii.gz"
V3 = "phantom-s/v3"


@pytest.fixture
def service(models: Path, tmp_path: Path) -> Service:
    settings = Settings(models_dir=models, default_variant=V3, runs_dir=tmp_path / "runs")
    return Service(settings, FakeEncoderStore(settings, CountingEncoder()), tmp_path)


@pytest.fixture
def address(
    service: Service, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """An app that sweeps often."""
    monkeypatch.setattr(guard, "SWEEP_SECONDS", 0.05)
    place = {"models_dir": models, "runs_dir": tmp_path / "runs", "default_variant": V3}
    with running_app(service, tmp_path / "app", max_upload_mb=4, **place) as url:
        yield url


def uploaded() -> list[Path]:
    """Files in the upload folder now."""
    while True:
        try:
            return [path for path in uploads.folder().rglob("*") if path.is_file()]
        except FileNotFoundError:  # a folder went while it was looked into
            continue


class Held:
    """What the app holds of one person, watched without keeping it alive."""

    def __init__(self, service: Service, tab: Tab) -> None:
        session = service.sessions.find(tab.key())
        assert session is not None
        volume, report = session.volume, session.report
        assert volume is not None
        assert report is not None
        view = service.model_view(session)
        self.words = report.text[5:60][::-1]  # reversed: the search must not find itself
        self.references = [weakref.ref(volume.hu), weakref.ref(view.hu)]
        self.service = service

    def remains(self) -> list[str]:
        """What is still there."""
        gc.collect()
        found = [f"array {ref().shape}" for ref in self.references if ref() is not None]  # type: ignore[union-attr]
        if self.service.engine.cache.nbytes:
            found.append(f"{self.service.engine.cache.nbytes} bytes in the cache")
        return found + texts_with(self.words[::-1])


CONTAINERS = (dict, list, tuple, set, frozenset, deque, CellType)


def may_hold_texts(owner: object) -> bool:
    """Everything but frames; Python 3.12 crashes when more than containers is looked into."""
    if sys.version_info >= (3, 12):
        return isinstance(owner, CONTAINERS)
    return not isinstance(owner, FrameType)


def texts_with(words: str) -> list[str]:
    """Containers of this process that hold a text with these words in it."""
    found = []
    for owner in gc.get_objects():
        if not may_hold_texts(owner):
            continue
        for held in gc.get_referents(owner):
            if isinstance(held, str) and held is not words and words in held:
                found.append(f"a text of {len(held)} characters in a {type(owner).__name__}")
    return found


def open_and_report(tab: Tab, chest: Path) -> None:
    facts = tab.call("open_scan", tab.upload(chest, NAME))
    assert facts["name"] == NAME, "the person sees the name"
    *_, last = tab.events("write_report", V3, {"max_new_tokens": 60})
    assert last["success"]


# -- on request, with the tab, after a time ------------------------------------------------------


def test_closing_the_tab_leaves_no_file_array_feature_or_report(
    address: str, service: Service, chest: Path
) -> None:
    with Tab(address) as tab:
        open_and_report(tab, chest)
        held = Held(service, tab)
        assert held.remains(), "this test can see what is there"
    assert eventually(lambda: len(service.sessions) == 0)
    assert eventually(lambda: not held.remains()), held.remains()
    assert uploaded() == []


def test_deleting_on_request_leaves_nothing_and_the_tab_goes_on(
    address: str, service: Service, chest: Path
) -> None:
    with Tab(address) as tab:
        open_and_report(tab, chest)
        held = Held(service, tab)
        tab.call("forget")
        assert eventually(lambda: not held.remains()), held.remains()
        open_and_report(tab, chest)


def test_an_idle_session_ends_although_nobody_asks_for_anything(
    address: str, service: Service, chest: Path
) -> None:
    with Tab(address) as tab:
        open_and_report(tab, chest)
        held = Held(service, tab)
        service.sessions._idle = 0.0
        assert eventually(lambda: len(service.sessions) == 0)
        assert not [f for f in held.remains() if "array" in f or "cache" in f]


def test_a_program_without_a_heartbeat_is_forgotten_after_the_same_time(
    address: str, service: Service, chest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tab(address) as tab:
        open_and_report(tab, chest)
        held = Held(service, tab)
        forget = guard.forget_tab
        monkeypatch.setattr(guard, "forget_tab", lambda *_: None)  # as if it never said goodbye
    monkeypatch.setattr(guard, "forget_tab", forget)
    monkeypatch.setattr(guard.Guard, "forget_idle", _all_are_idle(guard.Guard.forget_idle))
    assert eventually(lambda: not held.remains()), held.remains()


def _all_are_idle(forget_idle: Any) -> Any:
    def forget(self: guard.Guard, app: Any) -> None:
        for tab, used in app.state_holder.time_last_used.items():
            app.state_holder.time_last_used[tab] = used - 2 * self._idle
        forget_idle(self, app)

    return forget


def test_an_upload_that_nobody_opens_is_deleted(address: str, chest: Path) -> None:
    with Tab(address) as tab:
        path = Path(tab.upload(chest)["path"])
        assert path.is_file()
        uploads.sweep()
        assert path.is_file(), "it is young"
        old = time.time() - 2 * limits.UNREAD_SECONDS
        os.utime(path.parent, (old, old))
        uploads.sweep()
        assert path.is_file(), "it may still be arriving, however long ago it began"
        os.utime(path, (old, old))
        assert eventually(lambda: not path.parent.exists())


def test_a_file_is_gone_once_it_was_read_or_refused(address: str, chest: Path) -> None:
    with Tab(address) as tab:
        tab.call("open_scan", tab.upload(chest))
        assert uploaded() == []
        bad = chest.with_name("notes.txt")
        bad.write_text("this is not a scan")
        with pytest.raises(RuntimeError, match="not a NIfTI"):
            tab.call("open_scan", tab.upload(bad))
        assert uploaded() == []


def test_an_upload_that_breaks_off_leaves_no_file(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    head = (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: "
        f'form-data; name="files"; filename="{NAME}"\r\n\r\n'
    )
    with socket.create_connection((host, int(port))) as line:
        line.sendall(head.encode() + b"x" * 5000)
        assert eventually(lambda: bool(uploaded()))
    assert eventually(lambda: not uploaded())
    assert eventually(lambda: not any(uploads.folder().iterdir()))


# -- crash and restart ---------------------------------------------------------------------------

CRASH = """
import os, signal, sys
from pathlib import Path
from rad3d.server.workdir import WorkDir
work = WorkDir(Path(sys.argv[1]))
(work.uploads / "scan").write_bytes(b"scan")
(work.temporary / "unpacked").write_bytes(b"scan")
print(work.path, flush=True)
if sys.argv[2] == "crash":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""


def test_the_next_start_deletes_what_a_crash_left_and_spares_a_server_that_runs(
    tmp_path: Path,
) -> None:
    parent = tmp_path / "work"
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH, parent, "crash"], capture_output=True, text=True
    )
    assert crashed.returncode == -signal.SIGKILL
    left = Path(crashed.stdout.strip())
    assert (left / "uploads" / "scan").is_file(), "a crash leaves files"
    command = [sys.executable, "-c", CRASH, str(parent), "live"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as living:
        assert living.stdout is not None
        other = Path(living.stdout.readline().strip())
        assert not left.exists(), "the next start deletes them"
        mine = WorkDir(parent)
        assert (other / "uploads" / "scan").is_file(), "its server is alive"
        assert mine.path.stat().st_mode & 0o077 == 0
        mine.close()
        assert not mine.path.exists()
        living.kill()
    WorkDir(parent).close()
    assert [p for p in parent.rglob("*") if p.is_file()] == []


def test_a_work_folder_that_another_user_could_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "work"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadRequest, match="RAD3D_WORK_DIR"):
        WorkDir(link)


def test_sessions_count_a_clock_that_nobody_can_set() -> None:
    store = SessionStore(3600, 10**9, lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        session = store.new()
        for jump in (-(10**9), 10**9):
            patch.setattr(time, "time", lambda jump=jump: 1.8e9 + jump)
            store.sweep()
            assert not session.ended


# -- headers -------------------------------------------------------------------------------------

SECRETS = ("DOE", "JANE", "MRN-4711", "WARD7")


def secret_nifti(path: Path, chest: Path) -> Path:
    """A scan with a person's name in every place that a NIfTI file has for one."""
    image = nib.Nifti1Image.from_filename(chest)
    image.header["descrip"] = b"DOE^JANE"
    image.header["db_name"] = b"MRN-4711"
    image.header["aux_file"] = b"WARD7"
    image.header["intent_name"] = b"DOE^JANE"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JANE MRN-4711"))
    with path.open("wb") as file, gzip.GzipFile("DOE^JANE.nii", "wb", fileobj=file) as packed:
        packed.write(image.to_bytes())
    assert b"DOE^JANE" in path.read_bytes(), "gzip keeps a name of its own"
    return path


def secret_series(path: Path) -> Path:
    """A DICOM series with a person's name, number and ward."""
    from mutations import _series

    with zipfile.ZipFile(path, "w") as out:
        for i, data in enumerate(_series()):
            assert b"DOE^JANE" in data
            out.writestr(f"DOE^JANE/{i}.dcm", data)
    return path


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_nothing_that_identifies_is_read_or_written_out(
    kind: str, address: str, chest: Path, tmp_path: Path
) -> None:
    made = {
        "nifti": lambda: secret_nifti(tmp_path / "a.nii.gz", chest),
        "dicom": lambda: secret_series(tmp_path / "a.zip"),
    }
    path = made[kind]()
    volume = read_volume(path, "scan")
    with Tab(address) as tab:
        facts = tab.call("open_scan", tab.upload(path, "scan"))
        *_, last = tab.events("write_report", V3, {"max_new_tokens": 20})
        served = httpx.get(f"{address}/rad3d/volume", headers={KEY: tab.key()})
        geometry = httpx.get(f"{address}/rad3d/geometry", headers={KEY: tab.key()})
    assert served.status_code == 200
    shown = repr(volume) + json.dumps(facts) + json.dumps(last) + geometry.text
    assert not [s for s in SECRETS if s in shown or s.encode() in served.content]


# -- the log -------------------------------------------------------------------------------------


def test_names_headers_and_reports_are_not_logged(
    address: str, chest: Path, tmp_path: Path, capfd: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Tab(address) as tab:
        tab.call("open_scan", tab.upload(secret_nifti(tmp_path / "a.nii.gz", chest), NAME))
        *_, last = tab.events("write_report", V3, {"max_new_tokens": 60})
        words = last["output"]["data"][0]["report"]["text"][:40]
        bad = tmp_path / "JANE.nii.gz"
        bad.write_bytes(chest.read_bytes()[:5000])
        with pytest.raises(RuntimeError):
            tab.call("open_scan", tab.upload(bad))
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    logged = "".join(ours) + "".join(capfd.readouterr())
    assert not [s for s in (*SECRETS, words, "JANE") if s in logged]


def test_a_defect_is_logged_by_kind_and_place_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def read() -> None:
        try:
            raise ValueError("header says DOE^JANE")
        except ValueError as error:
            raise OSError("cannot open /uploads/DOE^JANE.nii") from error

    with contextlib.suppress(OSError):
        try:
            read()
        except OSError as error:
            told = sentence(error)
            raise
    assert "JANE" not in told + caplog.text
    assert "OSError from" in caplog.text
    assert "after ValueError from" in caplog.text
    assert "test_privacy.py" in caplog.text


# -- elsewhere -----------------------------------------------------------------------------------

WATCHED = """
import sys
reached = []
def watch(event, arguments):
    own = (None, "127.0.0.1", "localhost", "::1")
    if event == "socket.getaddrinfo" and arguments[0] not in own:
        reached.append(("name", arguments[0]))
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        if not str(arguments[1][0]).startswith(("127.", "::1")):
            reached.append(("connection", arguments[1][0]))
    if reached:
        print("REACHED OUT", reached.pop(), file=sys.stderr, flush=True)
sys.addaudithook(watch)
from rad3d.core.settings import Settings
from rad3d.ui import serve
serve(Settings.from_env())
"""


@pytest.mark.slow
def test_the_server_as_started_reaches_nobody_logs_no_name_and_leaves_no_file(
    tmp_path: Path, chest: Path
) -> None:
    """The real server with the shipped models, ended by a crash."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = environment(
        RAD3D_WORK_DIR=str(tmp_path / "work"),
        RAD3D_PORT=str(port),
        RAD3D_RUNS_DIR=str(tmp_path / "runs"),
    )
    env.pop("HF_HUB_OFFLINE", None)
    log = tmp_path / "log"
    address = f"http://127.0.0.1:{port}"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [sys.executable, "-c", WATCHED], env=env, cwd=ROOT, stdout=out, stderr=out
        ) as server,
    ):
        try:
            assert eventually(lambda: "ready" in log.read_text(encoding="utf-8"), 300), (
                log.read_text(encoding="utf-8")
            )
            with Tab(address) as tab:
                tab.call("open_scan", tab.upload(chest, NAME))
                *_, last = tab.events("write_report", "phantom-s/v3", {"max_new_tokens": 60})
                assert last["success"], last
                words = last["output"]["data"][0]["report"]["text"][:40]
                path = Path(tab.upload(chest, NAME)["path"])
                assert path.is_file()
                assert path.stat().st_mode & 0o077 == 0
        finally:
            server.kill()
    written = log.read_text(encoding="utf-8")
    assert "REACHED OUT" not in written
    assert not [s for s in ("JANE", words) if s in written]
    assert path.is_file(), "killed before it was read"
    WorkDir(tmp_path / "work").close()
    assert not path.exists()
