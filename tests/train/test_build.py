"""The whole build runs from seeds alone, in order, and goes on where it stopped."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from scipy import ndimage

from rad3d.core.modes import MODES
from rad3d.core.settings import Settings
from rad3d.core.types import DoneEvent, GenerationOptions, Volume
from rad3d.model.encoders.noise import noise_novelty, read_reference
from rad3d.model.encoders.phantom_clip import ClipConfig
from rad3d.model.encoders.phantom_cnn import ConvEncoderConfig
from rad3d.model.engine import Engine
from rad3d.model.store import ModelStore
from rad3d.model.variants.variant import VariantConfig, variant_directory
from rad3d.synthetic.phantom.acquisition import draw_acquisition
from rad3d.synthetic.phantom.render import render
from rad3d.synthetic.truth import draw_truth
from rad3d.train.demo_build import DemoBuild
from rad3d.train.demo_plan import QUICK, DemoPlan
from rad3d.train.phantoms import Split
from rad3d.train.pretrain import LanguageModelShape
from rad3d.volume.grid import GridSpec

pytestmark = pytest.mark.slow


def _tiny_plan() -> DemoPlan:
    """One very small language model on a coarse grid: every stage in well under a minute."""
    pretraining = QUICK.language_models["phantom-s"]
    variants = QUICK.variants["phantom-s"]
    return replace(
        QUICK,
        name="tiny",
        encoder_split=Split("encoder", "in", 0, 6),
        paired_split=Split("paired", "in", 10_000, 6),
        calibration_split=Split("calibration", "in", 20_000, 6),
        noise_split=Split("noise", "in", 10_000, 6),
        test_splits=(Split("test-in", "in", 30_000, 4),),
        encoder=ConvEncoderConfig(
            channels=(8, 8),
            local_dim=4,
            grid=GridSpec(spacing_mm=(9.0, 9.0, 9.0), shape=(40, 32, 32)),
        ),
        encoder_training=replace(
            QUICK.encoder_training,
            loops=tuple(
                replace(QUICK.encoder_training.loops[0], steps=2, warmup=1, seed=seed)
                for seed in (0, 1)
            ),
            batch_size=2,
        ),
        clip_split=Split("clip", "in", 0, 3, wide=True),
        clip=ClipConfig(
            (8, 8), 4, 6, 16, 2, 256, GridSpec(spacing_mm=(9.0, 9.0, 9.0), shape=(48, 32, 32))
        ),
        clip_training=replace(
            QUICK.clip_training,
            parts=replace(QUICK.clip_training.parts, steps=2, warmup=1),
            whole=replace(QUICK.clip_training.whole, steps=2, warmup=1),
            contrast=replace(QUICK.clip_training.contrast, steps=2, warmup=1),
            parts_batch=2,
            whole_batch=2,
        ),
        language_models={
            "phantom-s": replace(
                pretraining,
                shape=LanguageModelShape(16, 1, 2, 32),
                loop=replace(pretraining.loop, steps=3, warmup=1),
                batch_size=2,
            )
        },
        variants={
            "phantom-s": replace(
                variants,
                loop=replace(variants.loop, steps=2, warmup=1),
                tuned_loop=replace(variants.tuned_loop, steps=2, warmup=1),
                batch_size=2,
            )
        },
    )


Built = tuple[DemoBuild, list[tuple[str, float]]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    root = tmp_path_factory.mktemp("build")
    lines: list[tuple[str, float]] = []
    build = DemoBuild(
        _tiny_plan(), root / "models", root / "runs", 1, lambda *line: lines.append(line)
    )
    build.run()
    return build, lines


def test_every_stage_leaves_its_output_and_is_not_run_twice(built: Built) -> None:
    build, lines = built
    told = [done for _, done in lines]
    assert told == sorted(told), "how much of the whole is done only grows"
    assert told[0] == 0.0
    assert told[-1] == pytest.approx(1.0)
    assert all(stage.done() for stage in build.stages())
    lines.clear()
    build.run()
    assert lines
    assert all(text.endswith("already there") and done == 1.0 for text, done in lines)


def test_the_noise_of_phantoms_is_learned_beside_the_encoder(built: Built) -> None:
    build, _ = built
    reference = read_reference(build.encoder_dir)
    assert reference is not None
    held_out = render(draw_truth(20_000, "in"))
    assert not noise_novelty(held_out.hu, reference).is_novel
    assert noise_novelty(ndimage.gaussian_filter(held_out.hu, 0.7), reference).is_novel


def test_the_second_encoder_reads_labels_and_details_from_a_scan(built: Built) -> None:
    engine = Engine(ModelStore(Settings(models_dir=built[0].models_dir)))
    phantom = render(draw_truth(1), draw_acquisition(1, "in", matrix=64, slices=48))
    seen = engine.features(Volume.from_array(phantom.hu, phantom.affine), "phantom-clip")
    diagnosis = engine.diagnose(seen)
    assert seen.pooled.shape == (256,)
    assert diagnosis.details is not None
    assert engine.store.noise("phantom-clip") is not None


@pytest.mark.parametrize("mode", list(MODES))
def test_a_built_variant_describes_itself_and_writes(built: Built, mode: str) -> None:
    build, _ = built
    config = VariantConfig.read(variant_directory(build.models_dir, f"phantom-s/{mode}"))
    assert config.training["pairs"] == 6
    assert config.training["steps"] == (2 if MODES[mode].trains else 0)
    assert config.files
    store = ModelStore(Settings(models_dir=build.models_dir))
    phantom = render(draw_truth(1), draw_acquisition(1, "in", matrix=64, slices=48))
    volume = Volume.from_array(phantom.hu, phantom.affine)
    events = list(
        Engine(store).stream(
            volume, config.id, GenerationOptions(max_new_tokens=8), threading.Event()
        )
    )
    assert isinstance(events[-1], DoneEvent)
    assert events[-1].report.variant_id == config.id
