"""``rad3d train``: one variant of any language model of the registry, shipped or published.

Pairs come from files (:mod:`rad3d.train.file_source`) or from the demo's phantoms
(:meth:`rad3d.train.demo_build.DemoBuild.pairs`); from there on the way is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.state import AcceleratorState

from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest, Rad3dError, some
from rad3d.core.files import FullDiskTold, file_sha256
from rad3d.core.language_models import LANGUAGE_MODELS, LanguageModel, weight_bytes
from rad3d.core.lookup import lookup
from rad3d.core.modes import KNOWN, MODES
from rad3d.model.encoders.head import FIT
from rad3d.model.identity import EncoderIdentity, weights_sha256
from rad3d.model.llm.architectures import count
from rad3d.model.llm.cost import Workload, check
from rad3d.model.llm.hub import Hub, obtain
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.llm.loading import load_language_model, outline
from rad3d.model.llm.models_folder import adopted, hand_on_terms
from rad3d.model.llm.precision import AUTO, SMALL_BYTES, Machine, inspect_machine, is_out_of_memory
from rad3d.model.llm.training_memory import check_training
from rad3d.model.variants.variant import CONFIG_FILE, VariantConfig, variant_directory
from rad3d.model.variants.word_projectors import prefix_positions
from rad3d.synthetic.grammar import write_summary
from rad3d.train.loop import LoopConfig, Progress
from rad3d.train.pairs import PairedFeatures, TrainingData, told
from rad3d.train.rundir import CONFIG_FILE as RUN_FILE
from rad3d.train.variant_training import VariantTraining, token_ids, train_variant

RECIPE = LoopConfig(
    0, 2e-5, warmup=100, final=1.0, weight_decay=0.0, beta2=0.999, validate_every=500,
    precision=AUTO,
)  # fmt: skip

PUBLISHED = VariantTraining(
    RECIPE,
    RECIPE,
    epochs=10,
    views=1,
    layers=8,
    noise=0.0,
    standardised=False,
    llm_precision=AUTO,
)
"""The paper's recipe, for a language model that the plan has no schedule for: Adam, 2e-5,
10 epochs, plain concatenation, a projector of 8 layers. What the paper does not state is ours: 16
pairs for each step, the warm-up, the largest gradient norm, and a rate that stays."""


def overridden(training: VariantTraining, **options: Any) -> VariantTraining:
    """The schedule with the options that a person set.

    Args:
        training: the schedule.
        **options: fields of the schedule, of its loops or of its targets, by their names; None
            keeps the schedule's own value.

    Raises:
        BadRequest: steps and epochs are both given.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "steps" in given and given.setdefault("epochs", 0):
        raise BadRequest("--steps and --epochs say the same; give one.", code="bad_option")
    target = {name: given.pop(name) for name in vars(training.target) if name in given}
    loop = {name: given.pop(name) for name in vars(training.loop) if name in given}
    return replace(
        training,
        loop=_changed(training.loop, loop),
        tuned_loop=_changed(training.tuned_loop, loop),
        target=replace(training.target, **target),
        **given,
    )


def _changed(loop: LoopConfig, values: dict[str, float]) -> LoopConfig:
    changed = replace(loop, **values)  # type: ignore[arg-type]
    if "learning_rate" in values:
        changed = replace(changed, muon_rate=0.0)  # the one rate that was asked for, for all
    if "steps" in values:
        changed = replace(changed, warmup=min(changed.warmup, changed.steps // 4))
    return changed


@dataclass(frozen=True)
class Place:
    """The folders, hub and device that a variant is trained with.

    Attributes:
        models_dir: holds shipped language models; receives the variant.
        run: checkpoint, log and configuration of the run.
        hub: where a published language model is fetched from.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        force: train even what seems not to fit into memory.
        replace: a variant that another run has made may be overwritten.
        tag: of the variant, see :class:`VariantConfig`.
    """

    models_dir: Path
    run: Path
    hub: Hub = field(default_factory=Hub)
    device: str = AUTO
    force: bool = False
    replace: bool = False
    tag: str = ""


def train_single(
    data: TrainingData,
    llm: str,
    mode: str,
    training: VariantTraining,
    place: Place,
    progress: Progress,
) -> Path:
    """Train one variant, or go on where an earlier run of it stopped.

    Args:
        data: pairs of features and reports.
        llm, mode: names of the registry, or of a language model's folder, which then gets a link in
            the models folder.
        training: the schedule.
        place: files and device.
        progress: receives lines.

    Returns:
        The directory of the variant.

    Raises:
        BadRequest: the data, the mode and the machine do not go together; nothing was trained.
        MissingWeights: the language model cannot be had.
    """
    row = lookup("language model", LANGUAGE_MODELS, llm)
    lookup("adaptation mode", MODES, mode)
    machine = inspect_machine(place.device)
    process = _process(machine)
    with process.main_process_first():
        row = adopted(row, place.models_dir)
    tell = progress if process.is_main_process else _silent
    if training.llm_precision != AUTO:
        check(mode, training.llm_precision)
    _check_inputs(data, mode)
    config = replace(_configuration(row, mode, data.train, training), tag=place.tag)
    output = variant_directory(place.models_dir, config.id)
    _check_new(output, config, place)
    with process.main_process_first():  # one download for all
        folder = obtain(
            row.source,
            place.hub,
            models_dir=place.models_dir,
            revision=row.revision,
            progress=tell,
        )
    blank = outline(row.source, folder)
    data, longest = _fitting(data, blank, config)
    _note_other_weights(data.train.encoder, place.models_dir, tell)
    training = _computed(training, machine, tell)
    training = training.resolved(len(data.train), process.num_processes)
    loop = training.schedule(config.mode_row)
    _tell_plan(data, loop, process.num_processes, tell)
    precision = _precision(blank, mode, training.llm_precision, machine)
    if not place.force:
        load = Workload(
            training.batch_size, longest, training.layers, training.checkpointing,
            autocast=loop.precision == "bf16",
        )  # fmt: skip
        room = _share(machine, process.num_processes)
        check_training(blank.model.config, mode, precision, load, room, loop.accumulate)
    with _enough_memory(place.run), FullDiskTold():
        language = load_language_model(
            row.source,
            models_dir=place.models_dir,
            revision=row.revision,
            precision="float32" if config.mode_row.trains_llm else precision,
            device=str(process.device),
            hub=place.hub,
            trains=True,
        )
        if not config.mode_row.trains_llm:
            config = replace(config, llm_sha256=language.sha256)
        train_variant(
            config, language, data, training, place.run, output, device=place.device, progress=tell
        )
        if process.is_main_process:
            hand_on_terms(folder, output, config.licence)
    return output


@contextmanager
def _enough_memory(run: Path) -> Iterator[None]:
    """Turn an out-of-memory error, in spite of the count, into a sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise Rad3dError(
            "There is not enough memory to train.",
            "Choose a smaller --batch-size with a larger --accumulate, --gradient-checkpointing or "
            f"a lower --llm-precision, and another --run-dir than {run.name}.",
            code="out_of_memory",
        ) from error


def _share(machine: Machine, processes: int) -> Machine:
    """The part of a machine that each process has: all share the main memory, each has a GPU."""
    parts = processes if machine.device == "cpu" else 1
    return replace(machine, free_bytes=machine.free_bytes // parts)


def _process(machine: Machine) -> PartialState:
    """Return the place of this process among those of ``accelerate launch``."""
    AcceleratorState._reset_state()
    return PartialState(cpu=machine.device == "cpu")


def _silent(text: str, fraction: float) -> None:
    """Ignore progress: only the first of several processes reports it."""


def _check_inputs(data: TrainingData, mode: str) -> None:
    """Refuse features that lack what the mode reads."""
    row, encoder = MODES[mode], data.train.encoder.id
    remedies = {
        "logits": f"Choose v1 or v2, or give it a head with: {FIT.format(encoder)}",
        "tokens": "Compute features again with: rad3d features compute --tokens",
        "findings": "Choose v1 or v2, or train where the encoder and its head are.",
    }
    sides = [side for side in (data.train, data.held_out) if side is not None]
    unknown = [label.name for label in data.train.label_set.labels if not label.rule]
    if "findings" in row.reads and unknown:
        raise BadRequest(
            f"{row.name} reads findings, and {some(unknown, 3)} of {data.train.label_set} are none "
            "that the labeller's rules know.",
            "Name the finding of each label in the label set's file, or choose another mode.",
            code="no_findings",
        )
    for what in row.reads:
        if what in remedies and any(getattr(side, what) is None for side in sides):
            raise BadRequest(
                f"{row.name} reads {KNOWN[what]}, which these features of {encoder} lack.",
                remedies[what],
                code="no_head" if what == "logits" else f"no_{what}",
            )


def _check_new(output: Path, config: VariantConfig, place: Place) -> None:
    """Refuse to overwrite a variant that this run has not made."""
    file, run = output / CONFIG_FILE, place.run / RUN_FILE
    if place.replace or not file.is_file():
        return
    try:
        maker = VariantConfig.read(output).training.get("run")
    except (Rad3dError, ValueError, TypeError):
        maker = None  # nobody knows
    if maker is None or not run.is_file() or maker != file_sha256(run):
        raise BadRequest(
            f"{config.id} is there already, and another run has made it.",
            "Add --replace to put a new one in its place.",
            code="variant_exists",
        )


def _configuration(
    row: LanguageModel, mode: str, data: PairedFeatures, training: VariantTraining
) -> VariantConfig:
    length, token_dim = training.prefix_length, 0
    if "tokens" in MODES[mode].reads and data.tokens is not None:
        length, token_dim = data.tokens.shape[2:]
    return VariantConfig(
        llm=row.id,
        mode=mode,
        llm_source=row.source,
        llm_revision=row.revision,
        encoder=data.encoder.id,
        encoder_sha256=data.encoder.sha256,
        head_sha256=data.head_sha256 if MODES[mode].uses_logits else "",
        preprocessing=data.encoder.preprocessing,
        projector=MODES[mode].projector,
        latent_dim=data.dim,
        token_dim=token_dim,
        prefix_length=MODES[mode].prefix_length if length is None else length,
        layers=training.layers,
        prefix_scale=training.prefix_scale,
        adapter_rank=training.adapter_rank,
        latent_weight=training.latent_weight,
        logits_weight=training.logits_weight,
        standardised=training.standardised,
        licence=row.licence,
        label_set=data.label_set,
    )


def _note_other_weights(encoder: EncoderIdentity, models_dir: Path, tell: Progress) -> None:
    """Say before the training what the variant would say after it."""
    folder = models_dir / ENCODERS[encoder.id].source
    if encoder.is_imported or not any(folder.glob("*.safetensors")):
        return
    if weights_sha256(folder) != encoder.sha256:
        tell(
            f"note: the features are of other weights of {encoder.id} than those here, with which "
            "this variant will not work",
            0.0,
        )


def _fitting(
    data: TrainingData, language: LanguageBundle, config: VariantConfig
) -> tuple[TrainingData, int]:
    """Drop reports that do not fit into the language model; return the longest, in tokens."""
    room = language.context - prefix_positions(config, language)
    room -= len(language.tokens(config.prompt)) + (language.bos_id is not None)
    words = longest_words(config, language, data)
    room -= words

    def check(side: PairedFeatures) -> tuple[PairedFeatures, int]:
        lengths = [max(map(len, texts)) for texts in token_ids(language, config.prompt, side)]
        long = [i for i, n in enumerate(lengths) if n > room]
        kept = side.without(long, f"reports of more than {room:,} tokens, too long for the model")
        return kept, max(n for n in lengths if n <= room)

    train, longest = check(data.train)
    if data.held_out is None:
        return replace(data, train=train), longest + words
    held_out, other = check(data.held_out)
    return replace(data, train=train, held_out=held_out), max(longest, other) + words


def longest_words(config: VariantConfig, language: LanguageBundle, data: TrainingData) -> int:
    """Tokens of the longest findings, where they stand as words before the report."""
    if not config.mode_row.words:
        return 0
    sides = [side for side in (data.train, data.held_out) if side is not None]
    texts = {write_summary(found) for side in sides for found in side.findings or ()}
    return max(len(language.tokens(f"Summary: {text}")) for text in texts)


def _computed(training: VariantTraining, machine: Machine, tell: Progress) -> VariantTraining:
    """The schedule with what is computed in: bf16 where the machine is faster in it."""
    if AUTO not in (training.loop.precision, training.tuned_loop.precision):
        return training
    chosen = "bf16" if machine.native_bf16 else "no"
    found = machine.bf16_gain and f"{machine.bf16_gain:.1f} times as fast as in float32"
    why = f"{machine.name} computes in bf16 {found}" if found else f"as suits {machine.name}"
    tell(f"computing in {'bf16' if machine.native_bf16 else 'float32'}: {why}", 0.0)
    loop, tuned = (
        replace(each, precision=chosen if each.precision == AUTO else each.precision)
        for each in (training.loop, training.tuned_loop)
    )
    return replace(training, loop=loop, tuned_loop=tuned)


def _precision(language: LanguageBundle, mode: str, wanted: str, machine: Machine) -> str:
    """Precision of the language model: float32 if it is small, else bf16 if the device has it."""
    if wanted != AUTO:
        return wanted
    size = count(language.model)
    small = weight_bytes(size.total, size.linear, "float32") <= SMALL_BYTES
    exact = small or MODES[mode].trains_llm or not machine.native_bf16
    return "float32" if exact else "bf16"


def _tell_plan(data: TrainingData, loop: LoopConfig, processes: int, tell: Progress) -> None:
    tell(f"to learn from: {data.train.sentence()}; {told(data.train.dropped)}", 0.0)
    if data.held_out is not None:
        tell(f"held out: {data.held_out.sentence()}; {told(data.held_out.dropped)}", 0.0)
    together = f", {processes} processes" if processes > 1 else ""
    tell(f"{loop.steps:,} steps at {loop.learning_rate:g}{together}", 0.0)
