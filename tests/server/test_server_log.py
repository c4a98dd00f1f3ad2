"""The log: one line for each event, figures and codes, never a name or a content."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from served import SHORT, server, watched
from tabs import Tab, eventually

from rad3d.core.errors import BadVolume, UnknownName
from rad3d.core.types import DoneEvent
from rad3d.server.log import Lines, Seldom, configure_logging, visitors_present


@contextmanager
def captured(as_json: bool = True) -> Iterator[list[str]]:
    """Lines as they would go to stderr."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep()
    handler.setFormatter(Lines(as_json))
    root = logging.getLogger()
    level, own = root.level, logging.getLogger("rad3d").level
    root.addHandler(handler)
    logging.getLogger("rad3d").setLevel(logging.INFO)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        logging.getLogger("rad3d").setLevel(own)


def test_every_event_is_one_json_line_of_figures_without_names_or_content(
    models: Path, chest: Path, tmp_path: Path
) -> None:
    service, _ = watched(models)
    session = service.sessions.new()
    bad = tmp_path / "Doe^Jane.nii.gz"
    bad.write_text("no scan")
    with captured() as lines:
        opened = service.open_path(session, chest, "Doe^Jane.nii.gz")
        with pytest.raises(BadVolume):
            service.open_path(session, bad, "Doe^Jane.nii.gz")
        events = list(service.generate(session, "phantom-s/v3", SHORT, threading.Event()))
    done = events[-1]
    assert isinstance(done, DoneEvent)
    entries = [json.loads(line) for line in lines]
    assert [e["event"] for e in entries] == ["scan opened", "scan refused", "report written"]
    assert entries[0]["voxels"] == 96 * 96 * 60
    assert entries[1]["code"]
    assert entries[2]["tokens"] == done.report.n_tokens
    assert entries[2]["writing_s"] > 0
    assert all({"time", "level", "logger", "event"} <= set(entry) for entry in entries)
    for private in ("Doe", "chest", session.token, opened.sha256, str(tmp_path), done.report.text):
        assert private not in "\n".join(lines)


@pytest.mark.parametrize("as_json", [True, False])
def test_what_other_packages_and_exceptions_say_is_withheld(as_json: bool) -> None:
    with captured(as_json) as lines:
        logging.getLogger("nibabel").warning("header of %s is odd", "Doe^Jane.nii.gz")
        logging.captureWarnings(True)
        try:
            warnings.warn("patient Doe^Jane", stacklevel=1)
            try:
                raise ValueError("could not read Doe^Jane.nii.gz")
            except ValueError as error:
                try:
                    raise RuntimeError("after\nDoe^Jane") from error
                except RuntimeError:
                    logging.getLogger("rad3d.model").exception("Could not encode the scan")
        finally:
            logging.captureWarnings(False)
    assert len(lines) >= 2
    assert "Doe" not in "\n".join(lines)
    assert all("\n" not in line for line in lines)
    assert "RuntimeError from test_server_log.py" in lines[-1]
    assert "ValueError from test_server_log.py" in lines[-1]
    assert "Could not encode the scan" in lines[-1]


def test_an_unknown_kind_of_log_is_refused() -> None:
    with pytest.raises(UnknownName, match="text, json"):
        configure_logging("xml")


def test_what_is_printed_past_the_log_becomes_a_line_that_says_where(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def ends() -> None:
        raise KeyError("Doe^Jane")

    class Broken:
        def __del__(self) -> None:
            raise ValueError("Doe^Jane")

    with captured() as lines, visitors_present():
        print("reading Doe^Jane")
        print("reading Doe^Jane", file=sys.stderr)
        for _ in range(2):
            try:
                raise ValueError("Doe^Jane")
            except ValueError:
                traceback.print_exc()
        thread = threading.Thread(target=ends)
        thread.start()
        thread.join()
        Broken()
    assert "Doe" not in "".join(lines) + "".join(capfd.readouterr())
    entries = [json.loads(line) for line in lines]
    here = [e for e in entries if e["event"].startswith("withheld, printed at test_server_log.py:")]
    assert len(here) == 4, "a traceback of many pieces is one line"
    assert [e.get("error", "").split(" ")[0] for e in here] == ["", "", "ValueError", "ValueError"]
    assert [e["event"] for e in entries[4:]] == ["a thread ended", "an error in a destructor"]
    assert "test_server_log.py" in entries[4]["error"]
    print("and afterwards it is as before")
    assert "as before" in capfd.readouterr().out


@pytest.mark.slow
def test_nothing_that_a_visitor_sends_or_gets_reaches_a_stream_of_a_real_server(
    chest: Path, tmp_path: Path
) -> None:
    """Bad uploads, forged calls, lost connections, cancelled reports, a flood of unknown paths."""
    scan, bad = tmp_path / "Doe^Jane.nii.gz", tmp_path / "Doe^Jane.zip"
    shutil.copy(chest, scan)
    bad.write_bytes(chest.read_bytes()[:5000])
    hashes: list[str] = []
    with server(scan, tmp_path / "work", 0.03, RAD3D_LOG="json") as (process, url):
        for kind in ("multipart/form-data; boundary=b", "multipart/form-data", "text/Doe^Jane"):
            for body in (b"--b\r\nDoe^Jane", b"Doe^Jane", b""):
                headers = {"Content-Type": kind}
                httpx.post(f"{url}/gradio_api/upload", content=body, headers=headers)
        with httpx.Client() as client:
            for number in range(100):
                client.get(f"{url}/Doe^Jane/{number}?name=Doe^Jane")
        for how in ("read", "cancel", "close"):
            with Tab(url) as tab:
                hashes.append(tab.hash)
                with pytest.raises(RuntimeError):
                    tab.call("open_scan", tab.upload(bad))
                forged = {"path": "/Doe^Jane", "meta": {"_type": "gradio.FileData"}}
                call = {"fn_index": 0, "session_hash": tab.hash, "data": [forged]}
                tab.client.post(f"{tab.api}/queue/join", json=call)
                tab.client.post(f"{tab.api}/queue/join", content=b'{"Doe^Jane": [')
                for function in ("write_report", "open_sample"):  # wrong in number and kind
                    for data in (["Doe^Jane"], [], [{"Doe^Jane": 1}, "Doe^Jane", "Doe^Jane"]):
                        call = {"data": data, "session_hash": tab.hash}
                        tab.client.post(f"{tab.api}/run/{function}", json=call)
                tab.call("open_scan", tab.upload(scan))
                stream = tab.events("write_report", "phantom-l/v3", {})
                for _ in range(6):
                    next(stream)
                if how == "cancel":
                    stop = {"data": [], "session_hash": tab.hash}
                    tab.client.post(f"{tab.api}/run/stop_report", json=stop)
                if how != "close":
                    assert "nodule" in json.dumps(list(stream)[-1])
            break_off(url)
        assert eventually(lambda: httpx.get(f"{url}/healthz").status_code == 200)
        time.sleep(2)  # for what comes late
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        out, log = process.stdout.read(), process.stderr.read()
    assert out == ""
    entries = [json.loads(line) for line in log.splitlines()]
    events = {entry["event"] for entry in entries}
    assert {"started", "stopped"} <= events
    assert any(event.startswith("withheld, printed at") for event in events), "Gradio prints"
    for private in ("Doe", "Jane", "nodule", "well inflated", *hashes):
        assert private not in log


def break_off(url: str) -> None:
    """A visitor whose connection is lost while a file is sent."""
    host, port = url.removeprefix("http://").split(":")
    head = (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: "
        'form-data; name="files"; filename="Doe^Jane.nii"\r\n\r\n'
    )
    with socket.create_connection((host, int(port))) as line:
        line.sendall(head.encode() + b"x" * 5000)


def test_a_flood_from_one_place_is_counted_and_not_written() -> None:
    now = 0.0
    seldom = Seldom(lambda: now)

    def record(line: int, level: int = logging.ERROR) -> logging.LogRecord:
        return logging.LogRecord("asyncio", level, "selector_events.py", line, "full", None, None)

    written = [seldom.filter(record(1)) for _ in range(2000)]
    assert written == [True] * Seldom.MOST + [False] * (2000 - Seldom.MOST)
    assert seldom.filter(record(2)), "another place"
    assert all(seldom.filter(record(1, logging.INFO)) for _ in range(2000)), "no complaint"
    now = 61.0
    later = record(1)
    assert seldom.filter(later)
    assert f"left_out={2000 - Seldom.MOST}" in Lines(as_json=False).format(later)
