"""The log: one line for each event, figures and codes, never a name or a content."""

from __future__ import annotations

import json
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from served import SHORT, watched

from rad3d.errors import BadVolume, UnknownName
from rad3d.types import DoneEvent
from rad3d.ui.operations import Lines


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
    session = service.new_session()
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
    for private in ("Doe", "chest", session, opened.sha256, str(tmp_path), done.report.text):
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
    from rad3d.ui.operations import configure_logging

    with pytest.raises(UnknownName, match="text, json"):
        configure_logging("xml")
