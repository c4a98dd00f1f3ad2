"""What a language model in a mode and precision takes: parameters, memory, time.

Memory of one training step, in bytes:

* weights: the language model's by its precision (:func:`rad3d.registry.weight_bytes`); float32
  where it is trained, since steps of 1e-5 vanish in bf16; the projector's always in float32.
* gradients: 4 for each trainable parameter.
* optimiser: 8 for each trainable parameter, AdamW's two averages.
* activations: everything that autograd keeps for the backward pass, each piece of memory once. It
  is counted by running the step on tensors that have shapes and no memory, so it holds for every
  architecture. A frozen language model needs them too: gradients pass through it to the prefix.
  Where layers are computed again (gradient checkpointing), only their inputs are kept, and of one
  layer at a time the rest.
* scores: 4 for each report token and word of the vocabulary, the gradient of the scores, the
  largest thing that exists for a moment on top.

Writing needs the weights and, for each token of each text, keys and values of every layer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from rad3d.errors import BadRequest
from rad3d.model.architectures import Size, build_config, count, quantise_, random_model
from rad3d.model.decoding import decode
from rad3d.model.language import LanguageBundle, recompute_layers
from rad3d.model.precision import (
    DTYPES,
    Machine,
    gigabytes,
    processor_name,
)
from rad3d.model.reporter import PrefixReporter
from rad3d.model.sources import Hub, Progress, obtain
from rad3d.model.variant import VariantConfig
from rad3d.registry import MODES, PRECISIONS, LanguageModel, lookup, weight_bytes
from rad3d.types import GenerationOptions

LATENT_DIM = 512
"""Of CT-CLIP and of the shipped encoder."""


@dataclass(frozen=True)
class Workload:
    """What is trained and written.

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
        """All of it, for JSON."""
        return {**asdict(self), "training": self.training}


@dataclass(frozen=True)
class Measured:
    """What was measured with random weights.

    Attributes:
        machine: the processor or GPU.
        threads: of the processor that torch used.
        share: of these threads' time that the process really had, 1 where nothing else ran; on a
            GPU the processor mostly waits, and this says little.
        step_s: median seconds of a training step.
        steps: how many were timed.
        tokens_per_s: written one after the other, one report at a time, without the first.
        first_token_s: from the prefix to the first token.
    """

    machine: str
    threads: int
    share: float
    step_s: float
    steps: int
    tokens_per_s: float
    first_token_s: float


def config_of(
    row: LanguageModel, hub: Hub, models_dir: Any, progress: Progress
) -> PreTrainedConfig:
    """The configuration of a language model: from the table, or else from its directory."""
    if row.architecture:
        return build_config(row.architecture)
    place = obtain(row.source, hub, models_dir=models_dir, progress=progress)
    return AutoConfig.from_pretrained(place, trust_remote_code=False, local_files_only=True)


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
        BadRequest: the mode trains the language model, which is quantised.
    """
    check(mode, precision)
    load = load or Workload()
    trains = MODES[mode].trains_llm
    with FakeTensorMode():
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=_dtype(mode, precision), trust_remote_code=False
        )
        size = count(model)
        reporter = _reporter(model, mode, precision, load)
        activations = _activations(reporter, load, precision)
    own = sum(p.numel() for p in reporter.projector.parameters())
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
        scores=4 * load.batch_size * load.report_tokens * vocabulary,
        writing=weight_bytes(size.total, size.linear, precision)
        + 4 * own
        + _cache_bytes(config, reporter.conditioning_length + load.report_tokens, precision),
    )


def _dtype(mode: str, precision: str) -> torch.dtype:
    return torch.float32 if MODES[mode].trains_llm else DTYPES[precision]


def _cache_bytes(config: PreTrainedConfig, tokens: int, precision: str) -> int:
    """Keys and values of every layer for one text."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    each = torch.empty((), dtype=DTYPES[precision]).element_size()
    return int(2 * config.num_hidden_layers * heads * size * tokens * each)


class _Tokenizer:
    """Stands in for a tokenizer: one token for three letters, and a text that never ends."""

    bos_token_id = 1
    eos_token_id = None
    pad_token_id = 0

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [3] * max(1, len(text) // 3)}

    def decode(self, ids: list[int], **_: Any) -> str:
        """Nothing to read."""
        return ""


def _reporter(model: Any, mode: str, precision: str, load: Workload) -> PrefixReporter:
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
        layers=load.layers,
    )
    return PrefixReporter(config, language).train()


def _batch(
    reporter: PrefixReporter, load: Workload
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    latent = torch.zeros(load.batch_size, LATENT_DIM)
    width = reporter.config.logits_dim
    logits = torch.zeros(load.batch_size, width) if width else None
    ids = torch.full((load.batch_size, load.report_tokens), 3)
    return latent, logits, ids, ids.clone()


def _autocast(reporter: PrefixReporter, load: Workload, precision: str) -> Any:
    """As in training: bf16 computation around float32 weights."""
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
    batch = _batch(reporter, load)
    with _counting(reporter) as kept, _autocast(reporter, load, precision):
        reporter.loss(*batch)
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


def measure(
    config: PreTrainedConfig,
    mode: str,
    precision: str,
    machine: Machine,
    load: Workload | None = None,
    *,
    seconds: float = 60.0,
    progress: Progress | None = None,
) -> Measured:
    """Train and write with random weights on this machine, and take the time.

    Args:
        config, mode, precision, load: as for :func:`estimate`.
        machine: where.
        seconds: after which no further step or token is begun; at least two steps and two tokens
            are.
        progress: told what is being done.

    Raises:
        BadRequest: it does not fit into the memory that is free.
    """
    load, tell = load or Workload(), progress or (lambda text, fraction: None)
    check(mode, precision)
    needed = estimate(config, mode, precision, load)
    _check_room(needed, Size(*_size(config)), precision, machine, load)
    tell("Making random weights", 0.0)
    model = random_model(config, _dtype(mode, precision), machine.device)
    if PRECISIONS[precision].quantised:
        quantise_(model, precision)
    reporter = _reporter(model, mode, precision, load)
    if load.checkpointing:
        recompute_layers(reporter.language)
    tell("Timing training steps", 0.3)
    began = time.perf_counter(), time.process_time()
    steps = _time_steps(reporter, load, precision, seconds, tell)
    tell("Timing the writing of a report", 0.8)
    first, rate = _time_writing(reporter.eval(), load, seconds)
    wall, used = time.perf_counter() - began[0], time.process_time() - began[1]
    where = processor_name() if machine.device == "cpu" else machine.name
    threads = torch.get_num_threads()
    tell("Measured", 1.0)
    return Measured(
        machine=where,
        threads=threads,
        share=min(used / (wall * threads), 1.0),
        step_s=statistics.median(steps),
        steps=len(steps),
        tokens_per_s=rate,
        first_token_s=first,
    )


def _size(config: PreTrainedConfig) -> tuple[int, int]:
    with FakeTensorMode():
        size = count(AutoModelForCausalLM.from_config(config, trust_remote_code=False))
    return size.total, size.linear


SHARE = 0.95
"""Of the free memory that a training step may take."""


def _fits(nbytes: int, machine: Machine) -> bool:
    return not machine.free_bytes or nbytes <= SHARE * machine.free_bytes


def _check_room(needed: Cost, size: Size, precision: str, machine: Machine, load: Workload) -> None:
    """Refuse before the system runs out; quantised weights are made from bf16 ones."""
    making = 2 * size.total if PRECISIONS[precision].quantised else 0
    nbytes = max(needed.training, making)
    if not _fits(nbytes, machine):
        smaller = f"--batch-size below {load.batch_size}, " if load.batch_size > 1 else ""
        raise BadRequest(
            f"A step takes {gigabytes(nbytes)}, and {gigabytes(machine.free_bytes)} are free on "
            f"{machine.name}.",
            f"Choose {smaller}a lower precision, a frozen mode or a smaller model; without "
            "--measure the cost is only counted.",
            code="model_too_large",
        )


def check_training(
    config: PreTrainedConfig,
    mode: str,
    precision: str,
    load: Workload,
    machine: Machine,
    accumulate: int = 1,
) -> Cost:
    """What a training step takes, where this machine has it.

    Args:
        config, mode, precision, load: as for :func:`estimate`.
        machine: where.
        accumulate: batches of a step, for the remedy.

    Raises:
        BadRequest: it does not fit; the remedy names what would.
    """
    needed = estimate(config, mode, precision, load)
    if _fits(needed.training, machine):
        return needed
    options = _Remedies(config, mode, machine, accumulate).of(precision, load)
    remedy = f"{', or '.join(options)} would fit" if options else "Choose a smaller model"
    raise BadRequest(
        f"A training step with {load.batch_size} reports of up to {load.report_tokens} tokens at "
        f"once takes {gigabytes(needed.training)}, and {gigabytes(machine.free_bytes)} are free "
        f"on {machine.name}.",
        f"{remedy}; --force tries it all the same.",
        code="model_too_large",
    )


class _Remedies:
    """What would fit where a training step does not, in the words of ``rad3d train``.

    Counting takes seconds for a large model, so what differs in the weights' precision only is
    counted once, and batches between one pair and the whole batch follow from these two.
    """

    def __init__(
        self, config: PreTrainedConfig, mode: str, machine: Machine, accumulate: int
    ) -> None:
        self.config, self.mode = config, mode
        self.machine, self.accumulate = machine, accumulate
        self.size = Size(*_size(config))
        self._counted: dict[Any, Cost] = {}

    def of(self, precision: str, load: Workload) -> list[str]:
        """Each change that is enough by itself; or else the first combination that is."""
        again = replace(load, checkpointing=True)
        found = [self._smaller(precision, load)]
        if not load.checkpointing and self._room(precision, again):
            found.append("--gradient-checkpointing")
        lower = [] if MODES[self.mode].trains_llm else _below(precision, self.machine)
        found += [f"--llm-precision {p}" for p in lower[:1] if self._room(p, load)]
        if any(found):
            return [option for option in found if option]
        for candidate in (precision, *lower):
            if batch := self._smaller(candidate, again):
                changed = f"--llm-precision {candidate} " if candidate != precision else ""
                return [f"{changed}--gradient-checkpointing {batch}"]
        one = replace(again, batch_size=1)
        frozen = MODES[self.mode].trains_llm and self._room(precision, one, "v2")
        return ["--mode v2 --gradient-checkpointing --batch-size 1"] if frozen else []

    def _smaller(self, precision: str, load: Workload) -> str:
        """The options of the largest smaller batch; empty where even one pair is too much."""
        whole = self._bytes(precision, load)
        one = self._bytes(precision, replace(load, batch_size=1))
        each = (whole - one) / max(load.batch_size - 1, 1)
        sizes = [load.batch_size // 2**i for i in range(1, load.batch_size.bit_length())]
        fitting = (n for n in sizes if _fits(int(one + each * (n - 1)), self.machine))
        size = next(fitting, 0)
        together = load.batch_size * self.accumulate
        return f"--batch-size {size} --accumulate {-(-together // size)}" if size else ""

    def _room(self, precision: str, load: Workload, mode: str = "") -> bool:
        return _fits(self._bytes(precision, load, mode), self.machine)

    def _bytes(self, precision: str, load: Workload, mode: str = "") -> int:
        """Of a training step."""
        mode = mode or self.mode
        base = "float32" if precision == "float32" else "bf16"
        if (base, load, mode) not in self._counted:
            self._counted[base, load, mode] = estimate(self.config, mode, base, load)
        total, linear = self.size.total, self.size.linear
        trained = MODES[mode].trains_llm  # then the weights are in float32 in any case
        less = weight_bytes(total, linear, base) - weight_bytes(total, linear, precision)
        return self._counted[base, load, mode].training - (0 if trained else less)


def _below(precision: str, machine: Machine) -> list[str]:
    """Precisions with smaller weights, the more exact first."""
    names = [p for p in PRECISIONS if p != "float16"]
    lower = names[names.index(precision) + 1 :] if precision in names else []
    return [p for p in lower if machine.quantises or not PRECISIONS[p].quantised]


def _time_steps(
    reporter: PrefixReporter, load: Workload, precision: str, seconds: float, tell: Progress
) -> list[float]:
    """Seconds of each training step but the first, which warms up."""
    trained = list(reporter.trainable_parameters())
    optimiser = torch.optim.AdamW(trained, lr=1e-5)
    batch = _batch(reporter, load)
    began = time.perf_counter()
    times: list[float] = []
    while len(times) < 6 and (len(times) < 2 or time.perf_counter() - began < seconds):
        start = time.perf_counter()
        with _autocast(reporter, load, precision):
            loss = reporter.loss(*batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        _synchronise(reporter)
        times.append(time.perf_counter() - start)
        tell(f"A training step took {times[-1]:.2f} s", 0.3 + 0.08 * len(times))
    return times[1:]


@torch.inference_mode()
def _time_writing(reporter: PrefixReporter, load: Workload, seconds: float) -> tuple[float, float]:
    """Seconds to the first token, and tokens per second after it, of the second report."""
    embeds = reporter.conditioning(reporter.prefix(*_batch(reporter, Workload(1, 1))[:2]))
    first, rate = 0.0, 0.0
    for tokens in (2, load.report_tokens + 1):
        options = GenerationOptions(max_new_tokens=min(max(tokens, 2), 1024))
        steps = decode(reporter.language, embeds, options)
        start = time.perf_counter()
        next(steps)
        _synchronise(reporter)
        first, written = time.perf_counter() - start, 0
        start = time.perf_counter()
        for _ in steps:
            written += 1
            if time.perf_counter() - start > seconds:
                break
        _synchronise(reporter)
        rate = written / (time.perf_counter() - start)
    return first, rate


def _synchronise(reporter: PrefixReporter) -> None:
    """A GPU works on its own; wait for it before looking at the clock."""
    if reporter.language.device.type == "cuda":
        torch.cuda.synchronize()
