"""A GPU that is lent for one call: the same report, plain values, no leftovers."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import SHORT, scraped, watched
from study_parts import TEST_N, small_evaluations
from tiny_models import LATENT_DIM, CountingEncoder, FakeEncoderStore, volume

import rad3d.model.engine as engine_module
import rad3d.service.zerogpu as lending
from rad3d.core.errors import Cancelled, Rad3dError, UnknownName
from rad3d.core.labels import N_LABELS
from rad3d.core.settings import Settings
from rad3d.core.types import (
    DiagnosisEvent,
    DoneEvent,
    FailedEvent,
    GenerationOptions,
    TextEvent,
    VariantEvent,
)
from rad3d.data.spec import SetSpec
from rad3d.evaluation.evaluations import Evaluations
from rad3d.evaluation.run_types import EvaluationRequest
from rad3d.model.prefix_input import PrefixInput
from rad3d.service.service import Service
from rad3d.service.zerogpu import (
    MAX_SECONDS,
    MIN_SECONDS,
    GpuLease,
    seconds_wanted,
)
from rad3d.ui import launch as serving


class NoGpu(Exception):
    """What the platform raises where it lends none."""


def plain_gpu(asked: list[int]) -> Callable[..., Any]:
    """A decorator like ``spaces.GPU``: all goes through pickle; keeps the seconds asked for."""

    def gpu(duration: Callable[..., int]) -> Callable[..., Any]:
        def decorate(work: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
            def lent(*args: Any) -> Iterator[Any]:
                asked.append(duration(*args))
                for event in work(*pickle.loads(pickle.dumps(args))):
                    yield pickle.loads(pickle.dumps(event))

            return lent

        return decorate

    return gpu


@pytest.mark.slow
def test_a_lent_gpu_writes_the_same_report_and_keeps_nothing_of_the_scan(
    models: Path, chest: Path
) -> None:
    asked: list[int] = []
    texts = []
    for lender in (None, GpuLease(plain_gpu(asked), NoGpu)):
        service, _ = watched(models, lender)
        session = service.sessions.new()
        opened = service.open_path(session, chest, "scan")
        events = list(service.generate(session, "phantom-s/v3", SHORT, threading.Event()))
        done = events[-1]
        assert isinstance(done, DoneEvent)
        assert any(isinstance(event, DiagnosisEvent) for event in events)
        texts.append(done.report.text)
        kept = [key for key in service.engine.cache._values if opened.sha256 in str(key)]
        assert bool(kept) is (lender is None)
    assert texts[0] == texts[1]
    assert asked == [MIN_SECONDS]


def test_the_seconds_asked_for_grow_with_model_and_report_within_15_to_40() -> None:
    scan = volume()
    some = [
        seconds_wanted(scan, variant, GenerationOptions(max_new_tokens=tokens))
        for variant in ("phantom-s/v3", "llama-3.2-1b/v3", "llama-2-7b-chat/v3")
        for tokens in (16, 320, 1024)
    ]
    assert min(some) == MIN_SECONDS == 15
    assert max(some) == MAX_SECONDS == 40
    assert some[1] < some[4] < some[7], "a larger model needs longer"
    assert some[0] < some[1] <= some[2]
    beam = GenerationOptions(strategy="beam", max_new_tokens=320)
    assert seconds_wanted(scan, "phantom-s/v3", beam) > some[1]


@pytest.mark.slow
def test_refusals_and_cancellation_come_through_a_lender(models: Path, chest: Path) -> None:
    def none(duration: object) -> Callable[..., Any]:
        def decorate(_work: object) -> Callable[..., Iterator[Any]]:
            def lent(*_: object) -> Iterator[Any]:
                raise NoGpu("You have exceeded your quota.")
                yield

            return lent

        return decorate

    service, operations = watched(models, GpuLease(none, NoGpu))
    session = service.sessions.new()
    service.open_path(session, chest, "scan")
    with pytest.raises(Rad3dError, match=r"No GPU .* You have exceeded your quota\.") as refused:
        list(service.generate(session, "phantom-s/v3", SHORT, threading.Event()))
    assert refused.value.code == "no_gpu"
    assert scraped(operations)["rad3d_report_failures_total{code=no_gpu}"] == 1

    asked: list[int] = []
    service, _ = watched(models, GpuLease(plain_gpu(asked), NoGpu))
    session = service.sessions.new()
    service.open_path(session, chest, "scan")
    with pytest.raises(UnknownName):
        list(service.generate(session, "phantom-x/v3", SHORT, threading.Event()))
    with pytest.raises(Rad3dError, match="demo build"):
        list(service.generate(session, "phantom-m/v1", SHORT, threading.Event()))
    assert asked == [], "no GPU is asked for something that cannot run"
    early = threading.Event()
    early.set()
    with pytest.raises(Cancelled):
        list(service.generate(session, "phantom-s/v3", SHORT, early))
    cancel = threading.Event()
    last = None
    for event in service.generate(session, "phantom-s/v3", SHORT, cancel):
        if isinstance(event, TextEvent):
            cancel.set()
        last = event
    assert isinstance(last, DoneEvent)
    assert last.report.finish_reason == "cancelled"
    assert last.report.n_tokens == 1


def conditions(n: int) -> list[PrefixInput]:
    """Of ``n`` different images."""
    rng = np.random.default_rng(0)
    return [PrefixInput(rng.normal(size=LATENT_DIM), rng.normal(size=N_LABELS)) for _ in range(n)]


@pytest.mark.slow
def test_an_evaluation_is_written_on_lent_gpus_with_the_same_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many batches in one call, as many as fit; each call asks for as long as its batches take."""
    monkeypatch.setattr(engine_module, "BATCH_ROWS", 2)
    monkeypatch.setattr(lending, "BATCH_ROWS", 2)
    small_evaluations(tmp_path)
    asked: list[int] = []
    runs = []
    for number, lender in enumerate((None, GpuLease(plain_gpu(asked), NoGpu))):
        settings = Settings(models_dir=tmp_path / "models", runs_dir=tmp_path / f"runs{number}")
        store = FakeEncoderStore(settings, CountingEncoder())
        service = Service(settings, store, samples_dir=tmp_path / "none", lender=lender)
        evaluations = Evaluations(service, settings, study_dir=tmp_path / "study")
        request = EvaluationRequest(
            (SetSpec("phantom-in"),), ("phantom-s/v3",), (), ("f1_macro",),
            GenerationOptions(max_new_tokens=400), limit=TEST_N, draws=10,
        )  # fmt: skip
        *_, last = evaluations.start(request, threading.Event())
        assert last.run is not None
        assert last.run.status == "finished"
        runs.append(
            [p.text for p in last.run.predictions["phantom-s/v3", "phantom-in"].predictions]
        )
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 1
    assert asked == [32, 20], "two batches of 2 fit into one call, the third needs another"


def test_the_seconds_asked_for_an_evaluation_stay_within_15_to_40() -> None:
    for variant in ("phantom-s/v3", "llama-3.2-1b/v3", "llama-2-7b-chat/v3"):
        for tokens in (16, 320, 1024):
            options = GenerationOptions(max_new_tokens=tokens)
            some = [seconds_wanted(conditions(n), variant, options) for n in (1, 16, 17, 200)]
            assert some == sorted(some)
            assert some[0] == some[1]
            assert some[0] >= MIN_SECONDS
            assert some[-1] <= MAX_SECONDS


@pytest.mark.slow
def test_an_evaluation_that_gets_no_gpu_says_so_and_keeps_what_was_written(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "BATCH_ROWS", 2)
    monkeypatch.setattr(lending, "BATCH_ROWS", 2)
    options = GenerationOptions(max_new_tokens=1024)  # one batch for a call

    def only_once(duration: object) -> Callable[..., Any]:
        def decorate(work: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
            def lent(*args: Any) -> Iterator[Any]:
                if calls:
                    raise NoGpu("You have exceeded your quota.")
                calls.append(1)
                yield from work(*args)

            return lent

        return decorate

    calls: list[int] = []
    service, _ = watched(models, GpuLease(only_once, NoGpu))
    batches = service.write_batches(conditions(4), "phantom-s/v3", options, threading.Event())
    assert len(next(batches)) == 2
    with pytest.raises(Rad3dError, match=r"No GPU .* You have exceeded your quota\.") as refused:
        next(batches)
    assert refused.value.code == "no_gpu"

    asked: list[int] = []
    service, _ = watched(models, GpuLease(plain_gpu(asked), NoGpu))
    with pytest.raises(Rad3dError, match="demo build"):
        list(service.write_batches(conditions(2), "phantom-m/v1", options, threading.Event()))
    cancel = threading.Event()
    batches = service.write_batches(conditions(4), "phantom-s/v3", SHORT, cancel)
    next(batches)
    cancel.set()
    with pytest.raises(Cancelled):
        next(batches)


def test_the_package_of_zero_gpu_is_asked_for_only_where_the_platform_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings.from_env({}).zero_gpu is False
    assert Settings.from_env({"SPACES_ZERO_GPU": "true"}).zero_gpu is True
    fake_spaces = type(sys)("spaces")
    fake_spaces.GPU = plain_gpu([])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spaces", fake_spaces)
    lender = serving.zero_gpu()
    assert lender.gpu is fake_spaces.GPU
    assert issubclass(lender.refusal, Exception)


@pytest.mark.slow
def test_a_comparison_on_a_lent_gpu_writes_the_same_and_ends_where_it_is_cancelled(
    models: Path, chest: Path
) -> None:
    variants = ["phantom-s/v3", "phantom-m/v3"]
    asked: list[int] = []
    told = []
    for lender in (None, GpuLease(plain_gpu(asked), NoGpu)):
        service, _ = watched(models, lender)
        session = service.sessions.new()
        service.open_path(session, chest, "scan")
        events = list(service.compare(session, variants, SHORT, threading.Event()))
        told.append({each.variant_id: each.event for each in events})
    alone, lent = told
    assert isinstance(lent["phantom-m/v3"], FailedEvent)
    assert lent["phantom-m/v3"] == alone["phantom-m/v3"]
    first, second = alone["phantom-s/v3"], lent["phantom-s/v3"]
    assert isinstance(first, DoneEvent)
    assert isinstance(second, DoneEvent)
    assert first.report.text == second.report.text
    assert asked == [MIN_SECONDS]
    assert not [key for key in service.engine.cache._values if "features" in str(key)]
    cancel = threading.Event()

    def cancel_once_text_comes(each: VariantEvent) -> None:
        if isinstance(each.event, TextEvent):
            cancel.set()

    with pytest.raises(Cancelled):
        list(map(cancel_once_text_comes, service.compare(session, variants, SHORT, cancel)))
