"""Sessions are kept apart, bounded and freed; the service does what the faces ask for."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tiny_models import CountingEncoder, FakeEncoderStore, volume

import rad3d.service.service as reading
from rad3d.core.errors import BadRequest, BadVolume, Cancelled, UnknownName
from rad3d.core.labels import LABELS
from rad3d.core.settings import Settings
from rad3d.core.types import (
    Diagnosis,
    DoneEvent,
    FailedEvent,
    GenerationOptions,
    Note,
    Novelty,
    Report,
    TextEvent,
    Volume,
)
from rad3d.reports.export import report_dict, report_json, report_text
from rad3d.service.gallery import read_samples
from rad3d.service.service import Service
from rad3d.service.sessions import Session

OPTIONS = GenerationOptions(max_new_tokens=10)
V3 = "phantom-s/v3"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    image = nib.Nifti1Image(np.array(volume(5).hu), np.array(volume(5).affine))
    nib.save(image, tmp_path / "in-000005.nii.gz")
    truth = {
        "domain": "in",
        "report": {"findings": "A nodule.", "impression": "Nodule."},
        "title": "First",
    }
    (tmp_path / "in-000005.json").write_text(json.dumps(truth))
    (tmp_path / "in-000006.json").write_text(json.dumps(truth))  # without its scan
    return tmp_path


@pytest.fixture
def service(
    models: Path, samples: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Service:
    def read(
        path: Path, name: str | None = None, limits: Any = None, metadata: Any = None
    ) -> Volume:
        if path.suffix == ".bad":
            raise BadVolume("This is not a scan.", "Choose another.", code="not_nifti")
        seed = int(path.name.split(".")[0][-1])
        scan = volume(seed)
        return Volume.from_array(np.array(scan.hu), np.array(scan.affine), name or path.name)

    monkeypatch.setattr(reading, "read_volume", read)
    settings = Settings(models_dir=models)
    return Service(settings, FakeEncoderStore(settings, CountingEncoder()), samples)


def write(service: Service, session: Session, **options: Any) -> Report:
    settings = GenerationOptions(**({"max_new_tokens": 10} | options))
    *_, last = service.generate(session, V3, settings, threading.Event())
    assert isinstance(last, DoneEvent)
    return last.report


def test_tokens_cannot_be_guessed(service: Service) -> None:
    tokens = {service.sessions.new().token for _ in range(50)}
    assert len(tokens) == 50
    assert min(map(len, tokens)) >= 32


def test_two_sessions_do_not_see_each_other(service: Service) -> None:
    one, two = service.sessions.new(), service.sessions.new()
    service.open_path(one, Path("scan1"), "mine")
    assert two.volume is None
    service.open_path(two, Path("scan2"), "yours")
    first, second = write(service, one), write(service, two)
    assert first.provenance["volume_sha256"] == volume(1).sha256
    assert second.provenance["volume_sha256"] == volume(2).sha256
    assert one.report is first
    assert two.report is second
    service.sessions.end(one)
    assert one.volume is None
    assert two.report is second


def test_same_content_in_two_sessions_keeps_each_name_and_shares_memory(service: Service) -> None:
    one, two = service.sessions.new(), service.sessions.new()
    a = service.open_path(one, Path("scan1"), "mine")
    b = service.open_path(two, Path("scan1"), "yours")
    assert (a.name, b.name) == ("mine", "yours")
    assert a.hu is b.hu
    write(service, one)
    service.sessions.end(one)
    assert service.engine.cache.nbytes > 0, "the other session still uses it"
    service.sessions.end(two)
    assert service.engine.cache.nbytes == 0


def test_ending_a_session_frees_everything_of_it(service: Service) -> None:
    session = service.sessions.new()
    for seed in range(3):
        service.open_path(session, Path(f"scan{seed}"), "scan")
        service.model_view(session)
        write(service, session)
    assert service.engine.cache.nbytes > 0
    service.sessions.end(session)
    assert service.engine.cache.nbytes == 0
    assert service.sessions.nbytes == 0
    service.sessions.end(session)


def test_session_ended_in_mid_report_leaves_nothing_behind(service: Service) -> None:
    session = service.sessions.new()
    service.open_path(session, Path("scan1"), "scan")
    events = service.generate(session, V3, OPTIONS, threading.Event())
    next(events)
    service.sessions.end(session)
    list(events)
    assert service.engine.cache.nbytes == 0
    assert session.report is None


def test_closing_the_events_ends_the_run(service: Service) -> None:
    session = service.sessions.new()
    service.open_path(session, Path("scan1"), "scan")
    events = service.generate(session, V3, OPTIONS, threading.Event())
    for event in events:
        if isinstance(event, TextEvent):
            break
    events.close()  # type: ignore[attr-defined]
    assert session.running == 0
    assert session.report is None
    assert write(service, session).n_tokens > 0


def test_refused_file_leaves_scan_and_report_in_place(service: Service) -> None:
    session = service.sessions.new()
    kept = service.open_path(session, Path("scan1"), "scan")
    report = write(service, session)
    with pytest.raises(BadVolume):
        service.open_path(session, Path("x.bad"), "broken")
    assert session.volume is kept
    assert session.report is report


def test_file_over_the_limit_is_refused_before_it_is_read(models: Path, tmp_path: Path) -> None:
    settings = Settings(models_dir=models, max_upload_mb=1)
    service = Service(settings, FakeEncoderStore(settings, CountingEncoder()), tmp_path)
    path = tmp_path / "big.nii"
    path.write_bytes(b"0" * (2**20 + 1))
    with pytest.raises(BadVolume, match="1 MB") as caught:
        service.open_path(service.sessions.new(), path, "big.nii")
    assert caught.value.code == "too_large"


def test_new_scan_forgets_the_old_report(service: Service) -> None:
    session = service.sessions.new()
    service.open_path(session, Path("scan1"), "scan")
    write(service, session)
    service.open_path(session, Path("scan2"), "scan")
    assert session.report is None


def test_report_without_a_scan_or_a_session_says_so(service: Service) -> None:
    session = service.sessions.new()
    with pytest.raises(BadRequest) as caught:
        write(service, session)
    assert caught.value.code == "no_volume"
    service.sessions.end(session)
    for ask in (
        lambda: write(service, session),
        lambda: service.open_path(session, Path("scan1"), "scan"),
        lambda: service.model_view(session),
    ):
        with pytest.raises(BadRequest) as caught:
            ask()
        assert caught.value.code == "no_session"
    assert service.sessions.find(session.token) is None
    assert service.sessions.find("guess") is None


def test_cancel_before_the_first_token(service: Service) -> None:
    session = service.sessions.new()
    service.open_path(session, Path("scan1"), "scan")
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        list(service.generate(session, V3, OPTIONS, cancel))
    assert session.running == 0


def test_model_view_is_the_scan_on_the_model_grid(service: Service) -> None:
    session = service.sessions.new()
    service.open_path(session, Path("scan1"), "scan")
    view = service.model_view(session)
    assert view.shape == (8, 8, 8)
    assert service.model_view(session) is view
    assert any(note.code == "resampled" for note in view.notes)


def test_samples_have_a_card_and_hide_their_truth(service: Service) -> None:
    (card,) = service.gallery.cards
    assert (card.id, card.title, card.domain) == ("in-000005", "First", "in")
    assert card.truth_text == "Findings: A nodule.\nImpression: Nodule."
    assert "nodule" not in card.description.lower()
    session = service.sessions.new()
    assert service.open_sample(session, "in-000005").name == "First"
    with pytest.raises(UnknownName, match="in-000005"):
        service.open_sample(session, "../secret")


def test_a_sample_is_read_once_for_all_visitors_and_cannot_be_changed_by_one(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = (service.sessions.new() for _ in range(3))
    first = service.open_sample(one, "in-000005")
    monkeypatch.setattr(reading, "read_volume", lambda *_: pytest.fail("it was read again"))
    second = service.open_sample(two, "in-000005")
    assert second.hu is first.hu
    assert not second.hu.flags.writeable
    assert service.usage.sample_bytes == first.hu.nbytes
    service.sessions.end(one)
    service.sessions.end(two)
    assert service.open_sample(three, "in-000005").name == "First"


def test_what_visitors_bring_is_not_kept_for_others(service: Service) -> None:
    session = service.sessions.new()
    service.open_path(session, Path("scan1"), "mine")
    assert service.usage.sample_bytes == 0
    service.sessions.end(session)
    assert service.usage.scan_bytes == service.usage.sample_bytes == 0


def test_json_that_is_no_sample_is_named(samples: Path) -> None:
    (samples / "in-000005.json").write_text("{}")
    with pytest.raises(BadRequest, match=r"in-000005\.json"):
        read_samples(samples)


def test_variants_are_listed_ready_or_with_what_they_need(service: Service) -> None:
    statuses = {s.id: s for s in service.variants()}
    assert statuses[V3].ready
    assert statuses["gpt2/v3"].command == "rad3d train --llm gpt2 --mode v3"


def test_no_report_is_written_about_what_is_no_chest_unless_somebody_insists(
    service: Service,
) -> None:
    session = service.sessions.new()
    scan = volume(3)
    note = Note("warning", "not_chest", "This does not look like a chest.")
    service.sessions.open(session, replace(scan, notes=(note,)))
    with pytest.raises(BadVolume, match="This does not look like a chest"):
        write(service, session)
    assert session.report is None
    *_, last = service.generate(session, V3, OPTIONS, threading.Event(), insist=True)
    assert isinstance(last, DoneEvent)
    assert last.report.text


def test_what_models_of_phantoms_write_says_so_everywhere(service: Service) -> None:
    session = service.sessions.new()
    service.open_path(session, Path("scan1"), "scan")
    report = write(service, session, max_new_tokens=3)
    line = "learned from synthetic phantoms only"
    assert line in report_text(report)
    assert line in report_dict(report)["disclaimer"]
    others = replace(report, provenance={**report.provenance, "phantoms_only": False})
    assert "phantoms" not in report_text(others)
    assert "not a medical device" in report_text(others)


def test_exports_name_what_the_report_contradicts_leaves_out_and_adds(service: Service) -> None:
    session = service.sessions.new()
    service.open_path(session, Path("scan1"), "scan")
    values = np.full(18, 0.1)
    values[[LABELS.index("Emphysema"), LABELS.index("Cardiomegaly")]] = 0.9, 0.8
    seen = Diagnosis(np.zeros(18), values, np.full(18, 0.5))
    text = "Findings: No cardiomegaly. Possible lung nodule. Left pleural effusion."
    report = replace(write(service, session), text=text, diagnosis=seen)
    data = report_dict(report)
    named = {key: [row["label"] for row in data[key]] for key in ("contradictions", "added")}
    assert named == {
        "contradictions": ["Cardiomegaly", "Pleural effusion"],
        "added": ["Lung nodule", "Pleural effusion"],
    }
    (silent,) = data["not_mentioned"]
    assert silent == {"label": "Emphysema", "probability": 0.9, "threshold": 0.5}
    written = report_text(report)
    assert "Contradicts the diagnosis: Cardiomegaly (denied, 80%)" in written
    assert "not mentioned: Emphysema (90%)." in written
    assert "considered: Lung nodule (10%)." in written


def test_exports_say_where_the_report_comes_from_and_hide_the_file_name(service: Service) -> None:
    session = service.sessions.new()
    service.open_path(session, Path("scan1"), "Jane Doe.nii.gz")
    report = write(service, session, max_new_tokens=3)
    data = json.loads(report_json(report))
    assert data == json.loads(json.dumps(report_dict(report)))
    assert data["provenance"]["volume_sha256"] == volume(1).sha256
    assert data["variant"] == V3
    assert len(data["diagnosis"]["labels"]) == 18
    assert data["options"]["max_new_tokens"] == 3
    text = report_text(report)
    assert "not a medical device" in text
    assert report.finish_reason == "length"
    assert "length limit" in text
    assert "Jane" not in text + report_json(report)


def test_warm_up_loads_the_default_variant_or_does_nothing(models: Path, tmp_path: Path) -> None:
    settings = Settings(models_dir=models, default_variant=V3)
    store = FakeEncoderStore(settings, CountingEncoder())
    Service(settings, store, tmp_path).warm_up()
    loaded = store.loaded
    assert loaded > 0
    store.variant(V3)
    assert store.loaded == loaded
    empty = Settings(models_dir=tmp_path)
    Service(empty, samples_dir=tmp_path).warm_up()


def test_late_report_on_a_replaced_scan_is_not_kept(service: Service) -> None:
    session = service.sessions.new()
    service.open_path(session, Path("scan1"), "scan")
    events = service.generate(session, V3, OPTIONS, threading.Event())
    next(events)
    service.open_path(session, Path("scan2"), "scan")
    list(events)
    assert session.report is None


@pytest.mark.slow
def test_a_shipped_sample_goes_from_file_to_report(models: Path) -> None:
    settings = Settings(models_dir=models)
    service = Service(settings, FakeEncoderStore(settings, CountingEncoder()))
    if not service.gallery.cards:
        pytest.skip("assets/samples is empty")
    session = service.sessions.new()
    card = service.gallery.cards[0]
    scan = service.open_sample(session, card.id)
    assert scan.name == card.title
    report = write(service, session)
    assert report.provenance["volume_sha256"] == scan.sha256
    assert set(scan.notes) <= set(report.notes)


def test_only_offered_variants_are_listed_and_written(models: Path) -> None:
    settings = Settings(models_dir=models, variants="phantom-s/v3,phantom-m/*")
    service = Service(settings, FakeEncoderStore(settings, CountingEncoder()))
    ids = {status.id for status in service.variants()}
    assert V3 in ids
    assert all(i == V3 or i.startswith("phantom-m/") for i in ids)
    session = service.sessions.new()
    service.sessions.open(session, volume(0))
    with pytest.raises(BadRequest, match="phantom-s/v2 is not offered here"):
        list(service.generate(session, "phantom-s/v2", OPTIONS, threading.Event()))
    assert write(service, session).n_tokens >= 1


# -- the stored example ------------------------------------------------------------------------


def _store_example(service: Service, folder: Path, sha256: str = "") -> Report:
    """Store a report on the sample; returns it."""
    session = service.sessions.new()
    service.open_sample(session, "in-000005")
    report = replace(write(service, session), novelty=Novelty(1.0, 20.0, 3.0))
    known = sha256 or report.provenance["volume_sha256"]
    report = replace(report, provenance={**report.provenance, "volume_sha256": known})
    path = folder / "in-000005.report.json"
    path.write_text(report_json(report), encoding="utf-8")
    service.gallery.__dict__.pop("example", None)
    return report


def test_a_stored_report_is_the_first_of_a_session_with_its_scan(
    service: Service, tmp_path: Path
) -> None:
    session = service.sessions.new()
    assert service.open_example(session) is None
    stored = _store_example(service, tmp_path)
    opened = service.open_example(session)
    assert opened is not None
    card, volume, report = opened
    assert card.id == "in-000005"
    assert session.volume is volume
    assert session.report is report
    for part in ("report", "variant", "options", "diagnosis", "novelty", "notes", "provenance"):
        assert report_dict(report)[part] == json.loads(report_json(stored))[part]


def test_a_stored_report_never_takes_the_place_of_a_scan_nor_stands_beside_another(
    service: Service, tmp_path: Path
) -> None:
    _store_example(service, tmp_path)
    session = service.sessions.new()
    own = service.open_path(session, Path("scan1"), "scan")
    assert service.open_example(session) is None
    assert session.volume is own
    _store_example(service, tmp_path, sha256="0" * 64)
    assert service.open_example(service.sessions.new()) is None
    (tmp_path / "in-000005.report.json").write_text("{}", encoding="utf-8")
    service.gallery.__dict__.pop("example", None)
    with pytest.raises(BadRequest, match="is no report"):
        service.open_example(service.sessions.new())


def test_a_comparison_is_offered_for_two_to_four_variants_and_keeps_no_report(
    service: Service,
) -> None:
    session = service.sessions.new()
    service.open_sample(session, "in-000005")
    events = list(service.compare(session, [V3, "phantom-s/v1"], OPTIONS, threading.Event()))
    last = {each.variant_id: each.event for each in events}
    assert isinstance(last[V3], DoneEvent)
    assert isinstance(last["phantom-s/v1"], FailedEvent), "it is not among these models"
    assert session.report is None
    for wrong in ([V3], [V3, V3], [], [f"phantom-s/{mode}" for mode in "abcde"]):
        with pytest.raises(BadRequest, match="2 to 4"):
            list(service.compare(session, wrong, OPTIONS, threading.Event()))


def test_a_comparison_leaves_the_reports_of_the_session_and_ends_with_its_scan(
    service: Service,
) -> None:
    session = service.sessions.new()
    service.open_sample(session, "in-000005")
    report = write(service, session)
    session.edited = report
    stop = session.arm({"Cardiomegaly": 0.9}, (V3, "phantom-s/v1"))
    assert session.is_comparing
    assert session.comparison is None, "it has not begun"
    session.offer(stop)
    assert session.claim() is stop is session.comparison
    assert session.report is report is session.edited
    assert session.drop_edits()
    assert not stop.is_set(), "to drop the edits of the report concerns no comparison"
    session.set_volume(volume(2))
    assert stop.is_set()
    assert session.comparison is None
