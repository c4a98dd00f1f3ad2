"""Models are loaded lazily, once, within a bound; and absent ones say what they need."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
import torch
from tiny_models import (
    GRID,
    LATENT_DIM,
    CountingEncoder,
    FakeEncoderStore,
    save_language,
    save_shipped,
    tiny_language,
    volume,
)

from rad3d.cli import build_parser
from rad3d.core.errors import BadRequest, CorruptWeights, MissingWeights, UnknownName
from rad3d.core.language_models import LANGUAGE_MODELS, language_model
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent, GenerationOptions
from rad3d.core.variant_ids import variant_id
from rad3d.model.cache import ByteCache
from rad3d.model.engine import Engine
from rad3d.model.identity import weights_hash
from rad3d.model.llm.precision import Machine
from rad3d.model.store import ModelStore
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig, variant_directory


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_shipped(folder)
    save_shipped(folder, "phantom-m", ("v2",))
    return folder


@pytest.fixture
def store(models: Path) -> ModelStore:
    return ModelStore(Settings(models_dir=models))


def test_status_reads_no_weights(store: ModelStore) -> None:
    statuses = store.catalogue.statuses()
    assert store.loaded == 0
    assert [s.id for s in statuses] == [variant_id(m, k) for m in LANGUAGE_MODELS for k in MODES]
    ready = {s.id for s in statuses if s.ready}
    assert ready == {*(variant_id("phantom-s", mode) for mode in MODES), "phantom-m/v2"}


@pytest.mark.parametrize("llm", LANGUAGE_MODELS)
def test_every_absent_variant_gives_a_reason_and_a_command(llm: str, tmp_path: Path) -> None:
    for mode in MODES:
        status = ModelStore(Settings(models_dir=tmp_path)).catalogue.status(variant_id(llm, mode))
        assert not status.ready
        assert status.reason
        shipped = LANGUAGE_MODELS[llm].shipped
        assert status.command == (
            "rad3d demo build" if shipped else f"rad3d train --llm {llm} --mode {mode}"
        )


def test_an_absent_mode_of_a_shipped_model_names_a_training_that_renders_nothing(
    store: ModelStore,
) -> None:
    status = store.catalogue.status("phantom-m/words")
    args = build_parser().parse_args(shlex.split(status.command)[1:])
    assert (args.llm, args.mode, args.reports) == ("phantom-m", "words", "phantom-train")
    assert (Path(__file__).parents[2] / args.features).is_file()
    assert store.catalogue.status("phantom-m/v3").command == "rad3d demo build"
    assert store.catalogue.status("phantom-m/text").reason.endswith("has not been set up yet.")


def test_parameters_are_counted_from_the_files(store: ModelStore) -> None:
    reporter = store.variant("phantom-s/v3")
    status = store.catalogue.status("phantom-s/v3")
    assert status.parameters == reporter.language.parameters
    assert status.trainable == sum(p.numel() for p in reporter.projector.parameters())
    tuned = store.catalogue.status("phantom-s/v1")
    assert tuned.trainable == sum(p.numel() for p in store.variant("phantom-s/v1").parameters())


def test_frozen_variants_share_one_language_model(store: ModelStore) -> None:
    llms = {id(store.variant(f"phantom-s/{mode}").llm) for mode in ("v2", "v3", "linear")}
    assert len(llms) == 1
    assert id(store.variant("phantom-s/v1").llm) not in llms
    assert store.variant("phantom-s/v3") is store.variant("phantom-s/v3")


def test_model_memory_is_bounded_and_a_dropped_model_comes_back(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(Settings(models_dir=models))
    first = store.variant("phantom-s/v3")
    used = store.nbytes
    monkeypatch.setattr(store._cache, "max_bytes", used + 1000)
    store.variant("phantom-m/v2")
    assert store.nbytes <= used + 1000
    again = store.variant("phantom-s/v3")
    assert again is not first
    assert again.config == first.config


def test_model_beyond_the_bound_is_refused_before_it_is_read(models: Path) -> None:
    store = ModelStore(Settings(models_dir=models, model_cache_mb=0))
    with pytest.raises(BadRequest, match="RAD3D_MODEL_CACHE_MB"):
        store.variant("phantom-s/v3")
    with pytest.raises(BadRequest, match="RAD3D_MODEL_CACHE_MB"):
        store.variant("phantom-s/v1")


def test_asking_for_an_absent_variant_names_the_command(store: ModelStore) -> None:
    with pytest.raises(MissingWeights, match="rad3d train --llm gpt2 --mode v3"):
        store.variant("gpt2/v3")
    with pytest.raises(UnknownName, match="phantom-s"):
        store.variant("gpt9/v3")
    with pytest.raises(UnknownName, match="v1, v2"):
        store.variant("gpt2/v9")


@pytest.mark.parametrize("part", ["llms/phantom-s", "encoders/phantom-cnn"])
def test_variant_without_its_frozen_parts_is_not_ready(
    models: Path, tmp_path: Path, part: str
) -> None:
    shutil.copytree(models, tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / part)
    status = ModelStore(Settings(models_dir=tmp_path / "m")).catalogue.status("phantom-s/v3")
    assert not status.ready
    assert status.command == "rad3d demo build"


def test_broken_configuration_is_a_status_not_a_crash(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "m")
    (tmp_path / "m/variants/phantom-s/v3/variant.json").write_text("{")
    store = ModelStore(Settings(models_dir=tmp_path / "m"))
    assert "cannot be read" in store.catalogue.status("phantom-s/v3").reason
    assert store.catalogue.status("phantom-s/v2").ready


def test_replaced_language_model_is_found(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "m")
    weights = tmp_path / "m/llms/phantom-s/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(CorruptWeights):
        ModelStore(Settings(models_dir=tmp_path / "m")).variant("phantom-s/v3")


def test_a_cache_that_fails_to_make_a_value_keeps_nothing() -> None:
    cache = ByteCache(10)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 // 0, lambda _: 1)
    assert "a" not in cache
    assert cache.get("a", lambda: 7, lambda _: 1) == 7


def test_cache_drops_what_was_used_longest_ago() -> None:
    cache = ByteCache(2)
    for key in ("a", "b", "a", "c"):
        cache.get(key, lambda: key, lambda _: 1)  # noqa: B023 - called at once
    assert "a" in cache
    assert "c" in cache
    assert "b" not in cache


# --- memory ---------------------------------------------------------------------------------------


def _machine(free: int) -> Machine:
    return Machine("cpu", "the processor", free, native_bf16=True, quantises=True)


def test_a_small_model_runs_in_float32_and_its_report_can_say_so(store: ModelStore) -> None:
    language = store.variant("phantom-s/v3").language
    assert (language.precision, language.device.type) == ("float32", "cpu")
    assert language.reason.startswith("float32 on the processor")


@pytest.mark.parametrize("mode", ["v1", "v3"])
def test_a_precision_that_is_asked_for_is_used(models: Path, mode: str) -> None:
    store = ModelStore(Settings(models_dir=models, precision="bf16"))
    language = store.variant(f"phantom-s/{mode}").language
    assert language.precision == "bf16"
    assert language.reason.endswith("asked for.")
    assert language.dtype == torch.bfloat16


def test_too_little_memory_is_a_sentence_and_smaller_models_still_load(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(Settings(models_dir=models, device="cpu"))
    free = [10]
    monkeypatch.setattr("rad3d.model.store.inspect_machine", lambda device: _machine(free[0]))
    with pytest.raises(BadRequest, match=r"are free on the processor.*smaller|shipped") as caught:
        store.variant("phantom-s/v3")
    assert caught.value.code == "model_too_large"
    free[0] = 2**40
    assert store.variant("phantom-s/v3").language.precision == "float32"


@pytest.mark.slow
def test_other_models_are_dropped_before_one_is_refused(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(Settings(models_dir=models))
    store.variant("phantom-m/v2")
    assert store.loaded == 2
    seen = []

    def machine(device: str) -> Machine:
        seen.append(store.loaded)
        return _machine(10 if store.loaded else 2**40)

    monkeypatch.setattr("rad3d.model.store.inspect_machine", machine)
    store.variant("phantom-s/v3")
    assert seen == [2, 0]


def test_a_listed_model_that_cannot_fit_is_refused_before_it_is_fetched(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*args: object, **kwargs: object) -> Path:
        raise AssertionError("nothing should be fetched")

    monkeypatch.setattr("rad3d.model.store.obtain", fetch)
    monkeypatch.setattr("rad3d.model.store.inspect_machine", lambda device: _machine(3 * 10**9))
    store = ModelStore(Settings(models_dir=models))
    with pytest.raises(BadRequest, match=r"DeepSeek-R1-Distill-LLaMA-8B needs 5\.7 GB"):
        store.language(LANGUAGE_MODELS["deepseek-r1-8b"].source)


# --- any other language model ---------------------------------------------------------------------


def test_a_variant_of_any_other_model_is_listed_and_writes(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "m")
    own = save_language(tiny_language("gpt_neox", seed=4), tmp_path / "own-llm")
    row = language_model(str(own))
    config = VariantConfig(
        llm=row.id, mode="v2", llm_source=row.source, encoder="phantom-cnn", preprocessing=GRID.id,
        latent_dim=LATENT_DIM, prefix_length=4, clip_length=3, layers=1, heads=4,
        llm_sha256=weights_hash(own),
    )  # fmt: skip
    reporter = PrefixReporter(config, tiny_language("gpt_neox", seed=4))
    reporter.save_pretrained(variant_directory(tmp_path / "m", config.id))

    store = FakeEncoderStore(Settings(models_dir=tmp_path / "m"), CountingEncoder())
    last = store.catalogue.statuses()[-1]
    assert (last.id, last.ready) == (f"{row.id}/v2", True)
    by_path = store.catalogue.status(f"{own}/v2")
    assert (by_path.id, by_path.ready) == (last.id, True)
    *_, done = Engine(store).stream(volume(), f"{own}/v2", GenerationOptions(max_new_tokens=5))
    assert isinstance(done, DoneEvent)
    assert done.report.provenance["llm"] == str(own)

    shutil.rmtree(own)
    status = store.catalogue.status(last.id)
    assert "has left" in status.reason
    assert status.command.startswith("ln -sfn FOLDER ")


def test_a_folder_that_is_no_variant_is_not_listed(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "m")
    for name in ("a--b/v9", "--x/v1", "a--..--b/v1"):
        folder = tmp_path / "m" / "variants" / name
        folder.mkdir(parents=True)
        (folder / "variant.json").write_text("{}")
    store = ModelStore(Settings(models_dir=tmp_path / "m"))
    assert len(store.catalogue.statuses()) == len(LANGUAGE_MODELS) * len(MODES)
