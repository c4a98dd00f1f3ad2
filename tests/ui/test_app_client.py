"""The app through ``gradio_client``: open a scan, stream a report, refuse, keep sessions apart."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from app_fixtures import MAX_UPLOAD_MB
from browser.fakes import FAKE_TEXT, FakeService
from browser.launch import running_app, small_chest
from gradio import networking
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from tabs import PATIENCE_S, eventually
from tiny_models import CountingEncoder, FakeEncoderStore, save_shipped

from rad3d.core.labels import LABELS
from rad3d.core.settings import Settings
from rad3d.service.service import Service

pytestmark = pytest.mark.process

KEY, SCAN = "X-Rad3d-Key", "X-Rad3d-Scan"


@pytest.fixture
def client(address: str) -> Client:
    return Client(address, verbose=False)


def test_a_scan_is_opened_and_its_report_streams(client: Client, chest: Path) -> None:
    facts = client.predict(handle_file(chest), api_name="/open_scan")
    assert facts["shape"] == [96, 96, 60]
    job = client.submit("phantom-l/v3", {}, api_name="/write_report")
    job.result(timeout=PATIENCE_S)
    events = job.outputs()
    kinds = [event["event"] for event in events]
    assert kinds[0] == "stage"
    assert kinds[-1] == "done"
    assert kinds.count("text") > 20, "the report comes in pieces"
    diagnosis = next(event for event in events if event["event"] == "diagnosis")
    assert [row["label"] for row in diagnosis["diagnosis"]] == list(LABELS)
    assert events[-1]["report"]["text"] == FAKE_TEXT


def test_several_variants_are_compared_and_each_event_names_its_own(
    client: Client, chest: Path
) -> None:
    client.predict(handle_file(chest), api_name="/open_scan")
    variants = ["phantom-l/v3", "phantom-s/text", "phantom-s/v3"]
    job = client.submit(variants, {"edited": {"Pleural effusion": 0}}, api_name="/compare")
    job.result(timeout=PATIENCE_S)
    last = {event["variant"]: event for event in job.outputs() if "variant" in event}
    assert last["phantom-s/text"] == {
        "variant": "phantom-s/text", "event": "failed", "reason": "It does not fit.",
    }  # fmt: skip
    for variant in ("phantom-l/v3", "phantom-s/v3"):
        assert "No pleural effusion." in last[variant]["report"]["text"]
    for wrong in (["phantom-l/v3"], ["a", "b", "c", "d", "e"], "phantom-l/v3", None):
        with pytest.raises(AppError, match="2 to 4 models can be compared"):
            client.predict(wrong, {}, api_name="/compare")


def test_generation_options_reach_the_engine(client: Client, chest: Path) -> None:
    client.predict(handle_file(chest), api_name="/open_scan")
    job = client.submit("phantom-l/v3", {"max_new_tokens": 5}, api_name="/write_report")
    job.result(timeout=PATIENCE_S)
    assert job.outputs()[-1]["report"]["n_tokens"] == 5
    with pytest.raises(AppError, match="max_new_tokens must lie between"):
        client.predict("phantom-l/v3", {"max_new_tokens": 0}, api_name="/write_report")


def test_a_program_insists_on_a_report_about_what_is_no_chest(
    client: Client, tmp_path: Path
) -> None:
    abdomen = small_chest(tmp_path / "abdomen.nii.gz", lungs=False)
    client.predict(handle_file(abdomen), api_name="/open_scan")
    with pytest.raises(AppError, match="No report was written"):
        client.predict("phantom-l/v3", {}, api_name="/write_report")
    with pytest.raises(AppError, match="insist must be true or false"):
        client.predict("phantom-l/v3", {"insist": 1}, api_name="/write_report")
    job = client.submit("phantom-l/v3", {"insist": True}, api_name="/write_report")
    job.result(timeout=PATIENCE_S)
    assert job.outputs()[-1]["event"] == "done"


def test_a_bad_file_is_refused_in_a_sentence_and_the_earlier_scan_stays(
    client: Client, fake_service: FakeService, chest: Path, tmp_path: Path
) -> None:
    facts = client.predict(handle_file(chest), api_name="/open_scan")
    bad = tmp_path / "notes.nii.gz"
    bad.write_text("this is not a scan")
    with pytest.raises(AppError) as refused:
        client.predict(handle_file(bad), api_name="/open_scan")
    assert "Traceback" not in str(refused.value)
    assert str(refused.value).strip().endswith(".")
    assert facts["sha256"] in fake_service.open_scans


def test_the_app_starts_on_a_machine_too_busy_to_answer_itself_in_time(
    fake_service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networking, "url_ok", lambda url: False)
    with running_app(fake_service, tmp_path) as url:
        assert httpx.get(f"{url}/config", timeout=60).status_code == 200


def test_the_real_engine_streams_through_the_app(chest: Path, tmp_path: Path) -> None:
    """Tiny random models, but every class on the way is the one that ships."""
    settings = replace(Settings(), models_dir=tmp_path / "models")
    save_shipped(settings.models_dir, modes=("v3",))
    service = Service(settings, FakeEncoderStore(settings, CountingEncoder()))
    with running_app(service, tmp_path) as url:
        client = Client(url, verbose=False)
        client.predict(handle_file(chest), api_name="/open_scan")
        job = client.submit("phantom-s/v3", {"max_new_tokens": 12}, api_name="/write_report")
        job.result(timeout=PATIENCE_S)
        done = job.outputs()[-1]
        assert done["event"] == "done"
        assert 1 <= done["report"]["n_tokens"] <= 12
        assert done["provenance"]["variant"] == "phantom-s/v3"
        with pytest.raises(AppError, match="demo build"):
            client.predict("phantom-m/v1", {}, api_name="/write_report")


def test_two_clients_do_not_see_each_others_scans(
    address: str, fake_service: FakeService, chest: Path, tmp_path: Path
) -> None:
    one, two = Client(address, verbose=False), Client(address, verbose=False)
    first = one.predict(handle_file(chest), api_name="/open_scan")
    other = small_chest(tmp_path / "other.nii.gz", shift=15.0)
    second = two.predict(handle_file(other), api_name="/open_scan")
    assert first["sha256"] != second["sha256"]
    assert {first["sha256"], second["sha256"]} <= fake_service.open_scans


def test_a_report_without_a_scan_is_refused(address: str) -> None:
    fresh = Client(address, verbose=False)
    with pytest.raises(AppError, match="scan"):
        fresh.predict("phantom-l/v3", {}, api_name="/write_report")


def opened(service: FakeService, client: Client, scan: Path) -> str:
    """Open a scan and return the key of the session that this made."""
    before = set(service.open_sessions)
    client.predict(handle_file(scan), api_name="/open_scan")
    (key,) = set(service.open_sessions) - before
    return key


def test_a_volume_is_handed_out_only_with_its_sessions_key(
    address: str, fake_service: FakeService, client: Client, chest: Path
) -> None:
    token = opened(fake_service, client, chest)
    for headers in ({}, {KEY: "guess"}, {KEY: ""}):
        assert httpx.get(f"{address}/rad3d/volume", headers=headers).status_code == 404
    assert httpx.get(f"{address}/rad3d/volume?key={token}").status_code == 404, "not by URL"
    answer = httpx.get(f"{address}/rad3d/volume", headers={KEY: token})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.content[344:347] == b"n+1"


def test_slices_are_rendered_for_the_fallback(
    address: str, fake_service: FakeService, client: Client, chest: Path
) -> None:
    token = opened(fake_service, client, chest)
    for plane in ("axial", "coronal", "sagittal"):
        query = {"plane": plane, "index": "30", "level": "-600", "width": "1500"}
        answer = httpx.get(f"{address}/rad3d/slice", params=query, headers={KEY: token})
        assert answer.status_code == 200
        assert answer.content[:3] == b"\xff\xd8\xff"
    bad = {"plane": "axial", "index": "9999", "level": "0", "width": "100"}
    assert httpx.get(f"{address}/rad3d/slice", params=bad, headers={KEY: token}).status_code == 404
    words = {"plane": "axial", "index": "three"}
    assert (
        httpx.get(f"{address}/rad3d/slice", params=words, headers={KEY: token}).status_code == 404
    )


def test_evidence_is_given_for_findings_of_the_report_on_the_open_scan_alone(
    address: str, fake_service: FakeService, client: Client, chest: Path, tmp_path: Path
) -> None:
    token = opened(fake_service, client, chest)
    before = client.predict(handle_file(chest), api_name="/open_scan")["sha256"]
    with pytest.raises(AppError, match="no report on this scan"):
        client.predict("Lung nodule", api_name="/where")
    client.predict("phantom-l/v3", {}, api_name="/write_report")
    found = client.predict("Lung nodule", api_name="/where")
    assert found["peak_mm"] == [100.0, 0.0, 60.0]
    cells = np.frombuffer(base64.b64decode(found["strength"]), np.uint8)
    assert cells.reshape(found["shape"], order="F")[15, 10, 11] == cells.max()
    assert "In 80 phantoms" in found["sentence"]
    with pytest.raises(AppError, match="finds no place"):
        client.predict("Pleural effusion", api_name="/where")
    for label in ("Emphysema", "Pericardial effusion", "<b>", ""):
        with pytest.raises(AppError, match="No place is shown"):
            client.predict(label, api_name="/where")
    query = {"label": "Lung nodule"}
    for headers, status in (
        ({KEY: token, SCAN: before}, 200),
        ({KEY: token, SCAN: "0" * 64}, 404),
        ({KEY: "guess"}, 404),
    ):
        answer = httpx.get(f"{address}/rad3d/where", params=query, headers=headers)
        assert answer.status_code == status
        assert answer.headers["cache-control"] == "no-store"
    client.predict(
        handle_file(small_chest(tmp_path / "other.nii.gz", shift=9.0)), api_name="/open_scan"
    )
    with pytest.raises(AppError, match="no report on this scan"):
        client.predict("Lung nodule", api_name="/where")


def test_only_the_viewers_own_files_are_served(address: str) -> None:
    assert httpx.get(f"{address}/rad3d/static/viewer.js").status_code == 200
    for name in ("package.json", "..%2Fserving.py", "nothing.js", "%2Fetc%2Fpasswd"):
        assert httpx.get(f"{address}/rad3d/static/{name}").status_code == 404


def test_an_upload_over_the_limit_is_refused(address: str, tmp_path: Path) -> None:
    large = tmp_path / "large.nii"
    large.write_bytes(b"\0" * (MAX_UPLOAD_MB * 2**20 + 1))
    answer = httpx.post(f"{address}/gradio_api/upload", files={"files": large.open("rb")})
    assert answer.status_code == 413


@pytest.mark.slow
def test_a_closed_client_leaves_nothing_behind(
    address: str, fake_service: FakeService, chest: Path
) -> None:
    before = set(fake_service.open_sessions)
    closing = Client(address, verbose=False)
    closing.predict(handle_file(chest), api_name="/open_scan")
    assert set(fake_service.open_sessions) - before
    closing.close()  # which the server notices at its next heartbeat, every 15 s
    assert eventually(lambda: set(fake_service.open_sessions) <= before, 90)


def test_a_scan_is_read_by_its_row_of_a_metadata_table_that_is_sent_with_it(
    client: Client, chest: Path, tmp_path: Path
) -> None:
    table = tmp_path / "train_metadata.csv"
    head = "VolumeName,RescaleIntercept,RescaleSlope,XYSpacing,ZSpacing"
    table.write_text(f'{head}\n{chest.name},0,1,"[0.7, 0.7]",1.5\n', encoding="utf-8")
    sent = [handle_file(chest), handle_file(table)]
    facts = client.predict(sent, api_name="/open_scan")
    assert facts["spacing_mm"] == [0.7, 0.7, 1.5]
    assert any("metadata table" in note["text"] for note in facts["notes"])
    assert client.predict(handle_file(chest), api_name="/open_scan")["spacing_mm"] != [
        0.7,
        0.7,
        1.5,
    ]
    table.write_text(f'{head}\nother.nii.gz,0,1,"[0.7, 0.7]",1.5\n', encoding="utf-8")
    with pytest.raises(AppError, match="has no row for"):
        client.predict([handle_file(chest), handle_file(table)], api_name="/open_scan")
    for wrong in ([], [*sent, handle_file(chest)]):
        with pytest.raises(AppError, match="Send a scan"):
            client.predict(wrong, api_name="/open_scan")


def test_a_program_finds_the_endpoints_under_their_names_and_needs_no_options(
    client: Client,
) -> None:
    endpoints = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
    names = {"/open_scan", "/open_sample", "/variants", "/write_report", "/stop_report"}
    names |= {"/delete_session", "/compare", "/where"}
    assert set(endpoints) == names
    assert all(p["parameter_has_default"] for p in endpoints["/write_report"]["parameters"])
