"""``rad3d train``: one variant of any language model of the registry, shipped or published.

It learns from the paired phantoms of a demo plan. What is missing on the way (phantoms, encoder,
features, a shipped base model) is made first; what is there is used as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rad3d.model.variant import variant_directory
from rad3d.registry import LANGUAGE_MODELS, MODES, lookup, variant_id
from rad3d.train.build import DemoBuild
from rad3d.train.loop import LoopConfig, Progress
from rad3d.train.plan import DemoPlan
from rad3d.train.variants import VariantTraining

PUBLISHED = VariantTraining(
    loop=LoopConfig(2000, 2e-4, warmup=100),
    tuned_loop=LoopConfig(2000, 2e-5, warmup=100),
    layers=8,
)
"""Schedule for a language model that the plan has none for. The projector has the published 8
layers; the published learning rate, 2e-5, is for weights that are already trained (V-1), and a
projector that starts from nothing takes ten times that."""


@dataclass(frozen=True)
class Overrides:
    """What the person set; None leaves the schedule's own value.

    Attributes:
        steps, learning_rate, precision, seed: of :class:`LoopConfig`.
        batch_size, layers: of :class:`VariantTraining`.
    """

    steps: int | None = None
    learning_rate: float | None = None
    precision: str | None = None
    seed: int | None = None
    batch_size: int | None = None
    layers: int | None = None

    def apply(self, training: VariantTraining) -> VariantTraining:
        """The schedule with the values that were set."""
        set_here = {name: value for name, value in vars(self).items() if value is not None}
        outer = {name: set_here.pop(name) for name in ("batch_size", "layers") if name in set_here}
        return replace(
            training,
            loop=_changed(training.loop, set_here),
            tuned_loop=_changed(training.tuned_loop, set_here),
            **outer,
        )


def _changed(loop: LoopConfig, values: dict[str, float]) -> LoopConfig:
    changed = replace(loop, **values)  # type: ignore[arg-type]
    if "learning_rate" in values:
        changed = replace(changed, muon_rate=0.0)  # the one rate that was asked for, for all
    return replace(changed, warmup=min(changed.warmup, changed.steps // 4))


def train_single(
    plan: DemoPlan,
    llm: str,
    mode: str,
    models_dir: Path,
    runs_dir: Path,
    *,
    overrides: Overrides | None = None,
    jobs: int = 1,
    progress: Progress,
) -> Path:
    """Train one variant, or go on where an earlier run of it stopped.

    Args:
        plan: gives the paired scans, the encoder, and the schedule of the shipped models.
        llm, mode: names of the registry.
        models_dir: holds encoder and language model; receives the variant.
        runs_dir: phantoms, features, checkpoints and logs.
        overrides: changes to the schedule.
        jobs: worker processes for phantoms.
        progress: receives lines.

    Returns:
        The directory of the variant.
    """
    lookup("language model", LANGUAGE_MODELS, llm)
    lookup("adaptation mode", MODES, mode)
    training = (overrides or Overrides()).apply(plan.variants.get(llm, PUBLISHED))
    build = DemoBuild(replace(plan, variants={llm: training}), models_dir, runs_dir, jobs, progress)
    variant = f"variant:{variant_id(llm, mode)}"
    done = {stage.name: stage.done for stage in build.stages()}
    for name in _needed(variant, plan, done):
        build.run(only=name)
    return variant_directory(models_dir, variant_id(llm, mode))


def _needed(name: str, plan: DemoPlan, done: dict[str, Callable[[], bool]]) -> Iterator[str]:
    """The stages to run for ``name``, itself last; what is done needs nothing."""
    if not done[name]():
        for earlier in _inputs(name, plan):
            yield from _needed(earlier, plan, done)
    yield name


def _inputs(name: str, plan: DemoPlan) -> tuple[str, ...]:
    """The stages whose output a stage reads."""
    kind, _, what = name.partition(":")
    paired = f"features:{plan.paired_split.name}"
    inputs = {
        "encoder": (f"phantoms:{plan.encoder_split.name}",),
        "features": ("encoder", f"phantoms:{what}"),
        "calibration": (paired, f"features:{plan.calibration_split.name}"),
        "llm": ("tokenizer",),
        "variant": (paired, "calibration"),
    }.get(kind, ())
    llm = what.partition("/")[0]
    return (*inputs, f"llm:{llm}") if kind == "variant" and llm in plan.language_models else inputs
