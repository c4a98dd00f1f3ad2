"""The streaming engine on tiny random models, through the real store."""

from __future__ import annotations

import threading
import time
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CountingEncoder, FakeEncoderStore, save_shipped, volume

from rad3d.core.errors import BadRequest, Cancelled, Rad3dError
from rad3d.core.labels import LABEL_INDEX, N_LABELS
from rad3d.core.settings import Settings
from rad3d.core.types import (
    DiagnosisEvent,
    DoneEvent,
    Event,
    FailedEvent,
    GenerationOptions,
    Report,
    StageEvent,
    TextEvent,
)
from rad3d.model import engine as engine_module
from rad3d.model.cache import ByteCache
from rad3d.model.encoders.base import Encoding
from rad3d.model.engine import Engine, Generated
from rad3d.model.prefix_input import PrefixInput

pytestmark = pytest.mark.numeric

OPTIONS = GenerationOptions(max_new_tokens=12)
V3 = "phantom-s/v3"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_shipped(folder)
    return folder


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


@pytest.fixture
def engine(models: Path, encoder: CountingEncoder) -> Engine:
    return Engine(FakeEncoderStore(Settings(models_dir=models), encoder))


def report_of(events: list[Event]) -> Report:
    last = events[-1]
    assert isinstance(last, DoneEvent)
    return last.report


def test_events_come_in_order_and_the_text_grows(engine: Engine) -> None:
    events = list(engine.stream(volume(), V3, OPTIONS))
    order = [type(event).__name__ for event in events]
    first_text = order.index("TextEvent")
    assert order[:first_text].count("DiagnosisEvent") == 1
    assert set(order[:first_text]) == {"StageEvent", "DiagnosisEvent"}
    assert set(order[first_text:-1]) == {"TextEvent"}
    fractions = [e.fraction for e in events if isinstance(e, StageEvent)]
    assert fractions == sorted(fractions)
    counts = [e.n_tokens for e in events if isinstance(e, TextEvent)]
    assert counts == sorted(counts)
    assert counts[-1] == report_of(events).n_tokens > 0


def test_report_says_where_it_comes_from(engine: Engine, models: Path) -> None:
    scan = volume()
    report = report_of(list(engine.stream(scan, V3, OPTIONS)))
    assert report.provenance["volume_sha256"] == scan.sha256
    config = engine.store.catalogue.config(V3)
    assert report.provenance["variant_files"] == config.files
    assert report.provenance["llm_sha256"] == config.llm_sha256 != ""
    stages = {"load", "grid", "encoder", "diagnosis", "first_token", "writing", "total"}
    assert set(report.timings_s) == stages
    assert report.timings_s["first_token"] <= report.timings_s["total"]


def test_an_edited_probability_moves_its_logit_and_is_marked(engine: Engine) -> None:
    def edited(**probabilities: float) -> Report:
        edits = {label.replace("_", " "): p for label, p in probabilities.items()}
        return report_of(list(engine.stream(volume(), V3, OPTIONS, None, edits)))

    own = edited()
    high, low = edited(Pleural_effusion=0.9), edited(pleural_effusion=0.1)
    i = LABEL_INDEX["Pleural effusion"]
    assert high.diagnosis.probabilities[i] == 0.9
    assert high.diagnosis.logits[i] > low.diagnosis.logits[i]
    others = np.arange(N_LABELS) != i
    np.testing.assert_array_equal(high.diagnosis.logits[others], own.diagnosis.logits[others])
    probability = pytest.approx(float(own.diagnosis.probabilities[i]))
    assert high.diagnosis.edited == {"Pleural effusion": probability}
    assert high.provenance["edited"] == {
        "Pleural effusion": {"probability": 0.9, "classifier": probability}
    }
    assert "edited" not in own.provenance
    back = edited(Pleural_effusion=float(own.diagnosis.probabilities[i]))
    assert back.diagnosis.logits[i] == pytest.approx(float(own.diagnosis.logits[i]), abs=1e-4)
    assert back.text == own.text


def test_a_mode_that_does_not_read_the_diagnosis_says_so_and_writes_the_same(
    engine: Engine,
) -> None:
    variant = "phantom-s/v2"
    own = report_of(list(engine.stream(volume(), variant, OPTIONS)))
    edits = {"Cardiomegaly": 1.0}
    edited = report_of(list(engine.stream(volume(), variant, OPTIONS, None, edits)))
    assert edited.text == own.text
    assert "not_listening" in [note.code for note in edited.notes if note.level == "warning"]
    reads = report_of(list(engine.stream(volume(), V3, OPTIONS, None, edits)))
    assert "not_listening" not in [note.code for note in reads.notes]


def test_a_bad_edit_is_refused_before_the_scan_is_encoded(
    engine: Engine, encoder: CountingEncoder
) -> None:
    for edits in ({"Nonsense": 0.5}, {"Cardiomegaly": 2.0}, {"Cardiomegaly": "much"}, [1]):
        with pytest.raises(Rad3dError, match=r"Nonsense|Cardiomegaly|no table"):
            list(engine.stream(volume(), V3, OPTIONS, None, edits))  # type: ignore[arg-type]
    assert encoder.encoded == 0


def test_a_scan_is_encoded_once_for_all_variants(engine: Engine, encoder: CountingEncoder) -> None:
    for variant in (V3, "phantom-s/v2", "phantom-s/v1", V3):
        list(engine.stream(volume(), variant, OPTIONS))
    assert encoder.encoded == 1
    list(engine.stream(volume(seed=1), V3, OPTIONS))
    assert encoder.encoded == 2


def test_features_are_computed_again_after_they_were_forgotten(
    engine: Engine, encoder: CountingEncoder
) -> None:
    engine.features(volume())
    engine.forget(volume().sha256)
    assert engine.cache.nbytes == 0
    engine.features(volume())
    assert encoder.encoded == 2


def test_two_threads_encode_the_same_scan_once(
    engine: Engine, encoder: CountingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = encoder.encode

    def slowly(values: np.ndarray) -> Encoding:
        time.sleep(0.2)  # the others have asked by then
        return encode(values)

    monkeypatch.setattr(encoder, "encode", slowly)
    threads = [threading.Thread(target=engine.features, args=(volume(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert encoder.encoded == 1


def test_feature_memory_is_bounded(models: Path, encoder: CountingEncoder) -> None:
    store = FakeEncoderStore(Settings(models_dir=models), encoder)
    one = Engine(store)
    one.features(volume())
    engine = Engine(store, ByteCache(3 * one.cache.nbytes))
    for seed in range(8):
        engine.features(volume(seed))
    assert engine.cache.nbytes <= 3 * one.cache.nbytes
    assert len(engine.cache) > 2


def written(engine: Engine, *args: Any) -> list[Generated]:
    """All texts of :meth:`Engine.generate_batches`."""
    return list(chain.from_iterable(engine.generate_batches(*args)))


def test_image_and_logits_reach_the_text(engine: Engine) -> None:
    options = GenerationOptions(max_new_tokens=30)
    rng = np.random.default_rng(0)
    latents, logits = rng.normal(size=(2, 32)), rng.normal(size=(2, 18)) * 3
    texts = written(
        engine,
        [PrefixInput(latents[i], logits[j]) for i in range(2) for j in range(2)],
        V3,
        options,
    )
    assert len({t.text for t in texts}) == 4
    ignoring = written(
        engine, [PrefixInput(latents[0], logits[j]) for j in range(2)], "phantom-s/v2", options
    )
    assert ignoring[0] == ignoring[1], "V-2 does not use the logits"


@pytest.mark.slow
def test_batch_writes_the_texts_of_the_stream(engine: Engine) -> None:
    scans = [volume(seed) for seed in range(20)]  # more than one batch
    streamed = [report_of(list(engine.stream(scan, V3, OPTIONS))).text for scan in scans]
    features = [engine.features(scan) for scan in scans]
    conditions = [PrefixInput(f.pooled, engine.diagnose(f).logits) for f in features]
    batch = written(engine, conditions, V3, OPTIONS)
    assert [item.text for item in batch] == streamed


def test_batch_without_logits_is_refused_where_they_are_needed(engine: Engine) -> None:
    with pytest.raises(BadRequest, match="logits"):
        written(engine, [PrefixInput(np.zeros(32))], V3, OPTIONS)


def test_cancelled_while_writing_keeps_what_was_written(engine: Engine) -> None:
    cancel = threading.Event()
    events: list[Event] = []
    for event in engine.stream(volume(), V3, GenerationOptions(max_new_tokens=100), cancel):
        events.append(event)
        if isinstance(event, TextEvent) and event.n_tokens == 4:
            cancel.set()
    report = report_of(events)
    assert (report.finish_reason, report.n_tokens) == ("cancelled", 4)


def test_cancelled_before_writing_raises(engine: Engine, encoder: CountingEncoder) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        list(engine.stream(volume(), V3, OPTIONS, cancel))
    with pytest.raises(Cancelled):
        written(engine, [PrefixInput(np.zeros(32), np.zeros(18))], V3, OPTIONS, cancel)
    assert encoder.encoded == 0


@pytest.mark.slow
def test_two_sessions_at_once_write_what_each_writes_alone(engine: Engine) -> None:
    options = GenerationOptions("sample", max_new_tokens=30, temperature=1.5, seed=4)
    scans = [volume(0), volume(1)]
    alone = [report_of(list(engine.stream(scan, V3, options))).text for scan in scans]
    streams = [engine.stream(scan, V3, options) for scan in scans]
    texts = ["", ""]
    for pair in zip(*streams, strict=False):
        for i, event in enumerate(pair):
            if isinstance(event, DoneEvent):
                texts[i] = event.report.text
    for i, stream in enumerate(streams):
        for event in stream:
            if isinstance(event, DoneEvent):
                texts[i] = event.report.text
    assert texts == alone
    assert texts[0] != texts[1]


def test_a_scan_unlike_the_training_scans_is_said_to_be(engine: Engine) -> None:
    calm = report_of(list(engine.stream(volume(), V3, OPTIONS)))
    assert "unlike_training" not in {note.code for note in calm.notes}
    engine.store.fake.limit = 0.0  # type: ignore[attr-defined]
    events = list(engine.stream(volume(seed=9), V3, OPTIONS))
    (note,) = (n for n in report_of(events).notes if n.code == "unlike_training")
    assert note.level == "warning"
    assert "synthetic phantoms" in note.text
    (diagnosis,) = (e for e in events if isinstance(e, DiagnosisEvent))
    assert note in diagnosis.notes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "model_failed"),
    ],
)
@pytest.mark.parametrize("where", ["grid", "encoder", "llm"])
def test_what_torch_raises_becomes_a_sentence_and_the_engine_lives(
    engine: Engine,
    encoder: CountingEncoder,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: str,
    where: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        if where == "grid":
            patch.setattr(engine_module, "to_grid", fail)
        elif where == "encoder":
            patch.setattr(encoder, "encode", fail)
        else:
            patch.setattr(engine.store.variant(V3).llm, "forward", fail)
        with pytest.raises(Rad3dError) as caught:
            list(engine.stream(volume(seed=3), V3, OPTIONS))
    assert caught.value.code == code
    assert caught.value.remedy
    if code == "model_failed":
        helps = "Another model may work" in caught.value.remedy
        assert helps == (where == "llm"), "all models see the scan through this encoder"
    assert report_of(list(engine.stream(volume(seed=3), V3, OPTIONS))).n_tokens > 0


def test_running_out_of_memory_while_loading_is_a_sentence_in_a_batch_as_well(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("rad3d.model.store.load_language_model", fail)
    conditions = [PrefixInput(np.zeros(32), np.zeros(18))]
    with pytest.raises(Rad3dError, match="not enough memory to load") as caught:
        written(engine, conditions, V3, OPTIONS)
    assert caught.value.code == "out_of_memory"
    monkeypatch.undo()
    assert written(engine, conditions, V3, OPTIONS)[0].n_tokens


def test_a_variant_trained_on_another_grid_is_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rad3d.volume.grid import GridSpec

    monkeypatch.setattr(engine.store.fake, "grid", GridSpec(shape=(9, 8, 8)))  # type: ignore[attr-defined]
    with pytest.raises(BadRequest, match="another model grid"):
        list(engine.stream(volume(), V3, OPTIONS))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_variants_side_by_side_write_what_each_writes_alone_and_encode_once(
    engine: Engine, encoder: CountingEncoder, strategy: Any
) -> None:
    options = GenerationOptions(strategy, max_new_tokens=12, beams=2)
    variants = [V3, "phantom-s/v1", "phantom-s/v2", "phantom-s/text", "phantom-s/linear"]
    reports = {
        each.variant_id: each.event.report
        for each in engine.compare(volume(), variants, options)
        if isinstance(each.event, DoneEvent)
    }
    assert set(reports) == set(variants)
    assert encoder.encoded == 1
    for variant, report in reports.items():
        alone = report_of(list(engine.stream(volume(), variant, options)))
        assert (report.text, report.finish_reason) == (alone.text, alone.finish_reason)
        assert report.provenance == alone.provenance
        assert set(report.timings_s) == set(alone.timings_s)


def test_variants_side_by_side_take_turns_and_their_texts_grow(engine: Engine) -> None:
    order = [
        each.variant_id
        for each in engine.compare(volume(), [V3, "phantom-s/v1"], OPTIONS)
        if isinstance(each.event, TextEvent)
    ]
    assert order[:4] == [V3, "phantom-s/v1", V3, "phantom-s/v1"]


def test_a_variant_that_cannot_write_takes_no_other_along(engine: Engine) -> None:
    events = list(engine.compare(volume(), ["phantom-m/v3", V3, "nonsense"], OPTIONS))
    failed = {e.variant_id: e.event.reason for e in events if isinstance(e.event, FailedEvent)}
    assert set(failed) == {"phantom-m/v3", "nonsense"}
    assert "not been trained" in failed["phantom-m/v3"]
    (done,) = [each for each in events if isinstance(each.event, DoneEvent)]
    assert done.variant_id == V3


def test_cancelled_side_by_side_keeps_what_each_has_written(engine: Engine) -> None:
    cancel, finished = threading.Event(), []
    for each in engine.compare(volume(), [V3, "phantom-s/v2", "phantom-s/v1"], OPTIONS, cancel):
        if isinstance(each.event, TextEvent) and each.event.n_tokens == 3:
            cancel.set()
        if isinstance(each.event, DoneEvent):
            finished.append(each.event.report)
    assert [report.finish_reason for report in finished] == ["cancelled"] * 3
    assert all(report.text for report in finished)
