"""Cost of a language model in a mode and precision: parameters, memory, time.

Memory of one training step, in bytes:

* weights: the language model's by its precision (:func:`rad3d.core.language_models.weight_bytes`);
  float32 where it is trained, since steps of 1e-5 vanish in bf16; the projector's always in
  float32.
* gradients: 4 for each trainable parameter.
* optimiser: 8 for each trainable parameter, AdamW's two averages.
* activations: everything that autograd keeps for the backward pass, each piece of memory once. It
  is counted by running the step on tensors that have shapes and no memory, so it holds for every
  architecture. A frozen language model needs them too: gradients pass through it to the prefix.
  Where layers are computed again (gradient checkpointing), only their inputs are kept, and of one
  layer at a time the rest.
* scores: 4 for each report token and word of the vocabulary, the gradient of the scores, the
  largest thing that exists for a moment on top; where they are many, they are made in pieces
  (:mod:`rad3d.model.llm.cross_entropy`).

Writing needs the weights and, for each token of each text, keys and values of every layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from rad3d.core.details import attribute_names
from rad3d.core.errors import BadRequest
from rad3d.core.labels import CT_RATE
from rad3d.core.language_models import PRECISIONS, LanguageModel, weight_bytes
from rad3d.core.lookup import lookup
from rad3d.core.modes import MODES
from rad3d.model.llm.architectures import count
from rad3d.model.llm.cross_entropy import piece_bytes
from rad3d.model.llm.decoding import Runner
from rad3d.model.llm.failures import UNUSABLE
from rad3d.model.llm.hub import Hub, Progress, obtain
from rad3d.model.llm.language import LanguageBundle, recompute_layers
from rad3d.model.llm.loading import read_config
from rad3d.model.llm.precision import DTYPES, cannot_shrink
from rad3d.model.variants.adapters import adapters_without_memory
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig

LATENT_DIM = 512
"""Size of CT-CLIP's image embedding and visual tokens, assumed where costs are counted."""

WORDS = 60
"""Tokens of findings that stand as words before the report; a guess for a few findings."""


@dataclass(frozen=True)
class Workload:
    """The workload whose cost is counted.

    Attributes:
        batch_size: pairs per training step.
        report_tokens: length of a report.
        layers: transformer layers of the projector.
        checkpointing: the layers of the language model are computed again in the backward pass.
        autocast: True where the computation is in bf16 although the weights are in float32; that
            of bf16 and quantised weights always is.
    """

    batch_size: int = 16
    report_tokens: int = 300
    layers: int = 8
    checkpointing: bool = False
    autocast: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "report_tokens", "layers"):
            if getattr(self, name) < 1:
                raise BadRequest(f"{name} must be at least 1.", code="bad_option")


@dataclass(frozen=True)
class Cost:
    """Parameters and bytes of one variant.

    Attributes:
        total: parameters of language model and projector.
        trainable: those that training changes.
        weights, gradients, optimiser, activations, scores: bytes of a training step.
        writing: bytes for writing one report.
    """

    total: int
    trainable: int
    weights: int
    gradients: int
    optimiser: int
    activations: int
    scores: int
    writing: int

    @property
    def training(self) -> int:
        """Bytes of a training step."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.scores

    def to_dict(self) -> dict[str, int]:
        """Every field and the bytes of a training step, for JSON."""
        return {**asdict(self), "training": self.training}


def config_of(
    row: LanguageModel, hub: Hub, models_dir: Any, progress: Progress
) -> PreTrainedConfig:
    """The configuration of a language model: from the table, or else from its directory."""
    if row.config:
        return AutoConfig.for_model(**row.config)
    place = obtain(row.source, hub, models_dir=models_dir, progress=progress)
    return read_config(row.source, place)


def check(mode: str, precision: str) -> None:
    """Refuse what cannot be: training quantised weights; raises UnknownName for other names."""
    if lookup("precision", PRECISIONS, precision).quantised and MODES[mode].trains_llm:
        raise BadRequest(
            f"{MODES[mode].name} trains the language model, and {precision} weights cannot be "
            "trained.",
            "Choose bf16 or float32, or a mode that keeps it frozen.",
            code="bad_option",
        )


def estimate(
    config: PreTrainedConfig, mode: str, precision: str, load: Workload | None = None
) -> Cost:
    """The cost of a variant, by counting; nothing of its size is allocated.

    Args:
        config: of the language model.
        mode: a row of the adaptation modes.
        precision: of the language model. Where it is trained, the computation is in bf16 for
            ``"bf16"``, and the weights are in float32.
        load: sizes.

    Raises:
        BadRequest: the mode trains the language model, which is quantised; or its family cannot be
            counted, or has nothing to quantise.
    """
    check(mode, precision)
    load = load or Workload()
    trains = MODES[mode].trains_llm
    with FakeTensorMode(), _countable(config):
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=training_dtype(mode, precision), trust_remote_code=False
        )
        size = count(model)
        with adapters_without_memory() if MODES[mode].adapter else nullcontext():
            reporter = random_reporter(model, mode, precision, load)
        cache = _cache_bytes(reporter, load.report_tokens, precision)
        activations = _activations(reporter, load, precision)
    if PRECISIONS[precision].quantised and not size.linear:
        raise cannot_shrink(f"The family {config.model_type}", precision)
    own = sum(p.numel() for p in reporter.trainable_parameters()) - (size.total if trains else 0)
    trainable = own + (size.total if trains else 0)
    vocabulary = int(config.get_text_config().vocab_size)
    held = weight_bytes(size.total, size.linear, "float32" if trains else precision)
    return Cost(
        total=size.total + own,
        trainable=trainable,
        weights=held + 4 * own,
        gradients=4 * trainable,
        optimiser=8 * trainable,
        activations=activations,
        scores=piece_bytes(load.batch_size * load.report_tokens, vocabulary),
        writing=weight_bytes(size.total, size.linear, precision) + 4 * own + cache,
    )


@contextmanager
def _countable(config: PreTrainedConfig) -> Iterator[None]:
    """Families whose path depends on numbers cannot run on tensors without memory."""
    try:
        yield
    except UNUSABLE as error:
        raise BadRequest(
            f"What a model of the family {config.model_type} takes cannot be counted "
            f"({type(error).__name__}).",
            "Choose another one; rad3d train --force tries it uncounted.",
            code="not_countable",
        ) from error


def training_dtype(mode: str, precision: str) -> torch.dtype:
    """The dtype of a language model's weights in training, except those that are quantised."""
    return torch.float32 if MODES[mode].trains_llm else DTYPES[precision]


def _cache_bytes(reporter: PrefixReporter, report_tokens: int, precision: str) -> int:
    """Keys, values and states of every layer for one text."""
    runner = Runner(reporter.language)
    words = WORDS if reporter.config.mode_row.words else 0
    tokens = reporter.conditioning_length + words + report_tokens
    runner.read(torch.empty(1, tokens, reporter.language.width, dtype=reporter.language.dtype))
    each = torch.empty((), dtype=DTYPES[precision]).element_size()
    return sum(tensor.numel() * each for tensor in runner.cached())


class _Tokenizer:
    """Stands in for a tokenizer: one token for three letters, and a text that never ends."""

    bos_token_id = 1
    eos_token_id = None
    pad_token_id = 0

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [3] * max(1, len(text) // 3)}

    def decode(self, ids: list[int], **_: Any) -> str:
        """An empty text."""
        return ""


def random_reporter(model: Any, mode: str, precision: str, load: Workload) -> PrefixReporter:
    """A variant in training around a language model without tokenizer, with random projector."""
    model.config.eos_token_id = None
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.eos_token_id = None
    language = LanguageBundle(model, _Tokenizer(), "random", precision=precision)
    config = VariantConfig(
        llm="random",
        mode=mode,
        llm_source="random",
        projector=MODES[mode].projector,
        latent_dim=LATENT_DIM,
        token_dim=LATENT_DIM,
        prefix_length=MODES[mode].prefix_length,
        layers=load.layers,
    )
    reporter = PrefixReporter(config, language).train()
    sizes = model.config.get_text_config()
    # Tensors without memory cannot tell; these are the families that change their scores.
    changed = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
    reporter.plain_head = not any(getattr(sizes, name, None) for name in changed)
    return reporter


def random_batch(reporter: PrefixReporter, load: Workload) -> dict[str, Tensor | None]:
    """A batch for the loss of a reporter: what the mode reads, report tokens and targets."""
    batch, width = load.batch_size, reporter.config.logits_dim
    words = WORDS if reporter.config.mode_row.words else 0
    ids = torch.full((batch, words + load.report_tokens), 3)
    bits = len(CT_RATE) + len(attribute_names())
    return {
        "latent": torch.zeros(batch, LATENT_DIM),
        "logits": torch.zeros(batch, width) if width else None,
        "input_ids": ids,
        "labels": ids.clone(),
        "tokens": torch.zeros(batch, reporter.config.prefix_length, LATENT_DIM),
        "bits": torch.zeros(batch, bits),
    }


def autocast(reporter: PrefixReporter, load: Workload, precision: str) -> Any:
    """The autocast context of training: bf16 computation around float32 weights."""
    if precision == "float32" and not load.autocast:
        return nullcontext()
    return torch.autocast(reporter.language.device.type, torch.bfloat16)


def _activations(reporter: PrefixReporter, load: Workload, precision: str) -> int:
    """Bytes that autograd keeps in one forward pass, parameters apart.

    With layers that are computed again: their inputs, and what one of them keeps.
    """
    everything = _kept(reporter, load, precision)
    if not load.checkpointing:
        return everything
    layers = recompute_layers(reporter.language)
    inputs = _kept(reporter, load, precision)
    return inputs + (everything - inputs) // layers


def _kept(reporter: PrefixReporter, load: Workload, precision: str) -> int:
    batch = random_batch(reporter, load)
    with _counting(reporter) as kept, autocast(reporter, load, precision):
        reporter(**batch)
    return sum(kept.values())


@contextmanager
def _counting(module: nn.Module) -> Iterator[dict[int, int]]:
    """Memory -> bytes of what autograd saves in the block, the module's own apart."""
    own = {t.untyped_storage()._cdata for t in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # or the memory of one would be used by the next

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
