"""Language models from their files: configuration, tokenizer and weights, and what is refused.

What is loaded is what was asked for: no code that a model brings, no tensors that are filled with
random numbers, no weights that somebody else quantised, and no family that cannot continue a
prefix (:func:`rad3d.model.llm.selftest.verify_causal`). Whatever is wrong with files ends in a
sentence.
"""

from __future__ import annotations

import logging
import pickle
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
)
from transformers.utils import logging as transformers_logging

from rad3d.core.config_sizes import LAYERS, VOCABULARIES, WIDTHS, check_sizes
from rad3d.core.errors import BadRequest, CorruptWeights, MissingWeights
from rad3d.core.language_models import LANGUAGE_MODELS, PRECISIONS
from rad3d.core.lookup import lookup
from rad3d.model.identity import weights_hash
from rad3d.model.llm.architectures import Size, count, meta_model, whole_output_input
from rad3d.model.llm.failures import UNUSABLE
from rad3d.model.llm.folders import SAFETENSORS, check_folder, weight_files
from rad3d.model.llm.hub import Hub, Progress, find_local, obtain, pinned_revision
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.llm.precision import DTYPES, cannot_shrink, is_out_of_memory
from rad3d.model.llm.selftest import verify_causal

WRAPPED = re.compile(r"(?:_orig_mod\.|module\.)+|model\.(?=model\.|lm_head\.)")
"""Prefixes that torch.compile, DataParallel and Lightning add to the keys of a language model."""

# It repeats, for every layer, that 8 bit computes in float16; and it looks for kernels on the hub.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@contextmanager
def plainly(source: str, precision: str = "") -> Iterator[None]:
    """Turn errors in reading a language model's files into plain sentences."""
    transformers_logging.disable_progress_bar()  # it would show tensors, not a download
    try:
        yield
    except ImportError as error:
        raise _needs_package(source, error) from error
    except (SafetensorError, pickle.UnpicklingError, EOFError) as error:
        # What torch says of a pickle advises to run the code in it.
        what = _first_line(error) if isinstance(error, SafetensorError) else "no plain tensors."
        raise CorruptWeights(
            f"The weights of the language model {source} cannot be read: {what}",
            "Restore or download them again.",
            code="corrupt_weights",
        ) from error
    except OSError as error:
        raise MissingWeights(
            f"The language model {source} could not be loaded: {_first_line(error)}",
            "Restore or download it again.",
            code="missing_weights",
        ) from error
    except UNUSABLE as error:
        if is_out_of_memory(error):
            raise
        raise _unusable(source, precision, error) from error
    finally:
        transformers_logging.enable_progress_bar()


def read_config(source: str, place: Path) -> PreTrainedConfig:
    """The configuration in a model's directory.

    Raises:
        MissingWeights: there is none that can be read.
        BadRequest: it is not one of a causal language model that can be used here.
    """
    check_folder(source, place, weights=False)
    with plainly(source):
        config = AutoConfig.from_pretrained(place, trust_remote_code=False, local_files_only=True)
    if getattr(config, "is_encoder_decoder", False):
        raise BadRequest(
            f"{source} is an encoder and a decoder; a prefix needs a decoder alone.",
            "Choose a causal language model.",
            code="unusable_model",
        )
    if getattr(config, "quantization_config", None):
        raise BadRequest(
            f"The weights of {source} are quantised in its files.",
            "Choose the repository of the whole weights: RAD3D_PRECISION=8bit or 4bit quantises "
            "them as they are loaded.",
            code="unusable_model",
        )
    text = config.get_text_config()
    allowed = {
        "num_hidden_layers": LAYERS,
        "hidden_size": WIDTHS,
        "intermediate_size": range(1, 8 * WIDTHS.stop),
        "num_attention_heads": WIDTHS,
        "vocab_size": VOCABULARIES,
    }
    sizes = {key: getattr(text, key, None) for key in allowed}  # some families have one a layer
    stated = {k: v for k, v in sizes.items() if v is not None and not isinstance(v, list | tuple)}
    check_sizes(source, {key: (size, allowed[key]) for key, size in stated.items()})
    return config


def directory_size(source: str, place: Path) -> Size:
    """Parameters of the model in a directory, from its configuration; reads no weights.

    Raises:
        MissingWeights, BadRequest: as :func:`read_config`.
    """
    config = read_config(source, place)
    with plainly(source):
        return count(meta_model(config))


def outline(source: str, place: Path) -> LanguageBundle:
    """Tokenizer and sizes of the model in a directory, without its weights."""
    config = read_config(source, place)
    with plainly(source):
        tokenizer = AutoTokenizer.from_pretrained(
            place, trust_remote_code=False, local_files_only=True
        )
        return LanguageBundle(meta_model(config), tokenizer, source)


_LOADING = threading.Lock()
"""Transformers switches torch's initialisation off for the whole process while it loads a model:
two at the same time lose weights."""


def load_language_model(
    source: str,
    *,
    models_dir: Path | None = None,
    revision: str | None = None,
    precision: str = "float32",
    device: str = "cpu",
    sha256: str = "",
    hub: Hub | None = None,
    progress: Progress | None = None,
    reason: str = "",
    trains: bool = False,
) -> LanguageBundle:
    """Load model and tokenizer; never remote code, and pickled weights only as plain tensors.

    Args:
        source: directory below ``models_dir``, any local directory, or a hub id.
        models_dir: where shipped and trained models lie.
        revision: of a hub model; None is the registry's, or else the main branch.
        precision: a key of :data:`rad3d.core.language_models.PRECISIONS`.
        device: a torch device.
        sha256: expected :func:`weights_hash` of a local model, where it is known.
        hub: where to fetch from; the hub that the environment names by default.
        progress: told about a download.
        reason: why this precision and device; kept with the model.
        trains: True where gradients shall pass through it, for which 4-bit weights stay as they
            are; or else they are rearranged for speed, where the processor has use for that.

    Raises:
        MissingWeights: neither here nor on the hub, gated, or the hub may not be asked.
        CorruptWeights: the weights differ from ``sha256`` or cannot be read.
        BadRequest: it is not a causal language model that can be used here.
        UnknownName: no such precision.
    """
    lookup("precision", PRECISIONS, precision)
    place = obtain(
        source, hub or Hub(), models_dir=models_dir, revision=revision, progress=progress
    )
    check_folder(source, place)
    with plainly(source):
        here = find_local(source, models_dir)
        digest = weights_hash(place) if here else ""  # the hub has checked what it gives
    if sha256 and digest and sha256 != digest:
        raise CorruptWeights(
            f"The weights of the language model in {source} are not the ones its variants "
            "were trained with.",
            "Restore the directory from the repository or build it again with: rad3d demo build",
            code="corrupt_weights",
        )
    if PRECISIONS[precision].quantised and not directory_size(source, place).linear:
        raise cannot_shrink(source, precision)
    read_config(source, place)
    with _LOADING, plainly(source, precision):
        tokenizer = AutoTokenizer.from_pretrained(
            place, trust_remote_code=False, local_files_only=True
        )
        model = _load(place, source, precision, device)
    revision = revision or pinned_revision(source)
    bundle = LanguageBundle(model, tokenizer, source, digest, revision, precision, reason)
    if trains:
        _keep_gradients(model)
    with plainly(source, precision):
        return verify_causal(
            bundle
        )  # also the pass that rearranges 4-bit weights, before they are shared


def _load(place: Path, source: str, precision: str, device: str) -> Any:
    weights = weight_files(place)
    options: dict[str, Any] = {}
    if PRECISIONS[precision].quantised:
        options = {"quantization_config": quantisation(precision), "device_map": {"": device}}
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        place,
        dtype=DTYPES[precision],
        use_safetensors=not weights or bool(SAFETENSORS.fullmatch(weights[0].name)),
        weights_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, with a sentence
        trust_remote_code=False,
        local_files_only=True,
        **options,
    )
    model, loading = loaded
    check_complete(source, loading)
    if not options:
        model.to(torch.device(device))
    whole_output_input(model)
    return model.eval()


def quantisation(precision: str) -> BitsAndBytesConfig:
    """The bitsandbytes configuration for ``"8bit"`` or ``"4bit"``."""
    if precision == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[precision],
    )


def _keep_gradients(model: Any) -> None:
    """Keep 4-bit weights as they are.

    On processors with AVX-512 BF16, bitsandbytes rearranges each one in its first forward pass,
    which two threads must not do at the same time. Gradients are wrong afterwards.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _unusable(source: str, precision: str, error: Exception) -> BadRequest:
    if precision and PRECISIONS[precision].quantised:
        problem = f"{source} cannot be used in {precision}: {_first_line(error)}"
        remedy = "Choose another precision, such as bf16, or another model."
    else:
        problem = f"{source} is no causal language model that can be used: {_first_line(error)}"
        remedy = (
            "Restore its files, or choose another one; models that bring their own code are not "
            "run."
        )
    return BadRequest(problem, remedy, code="unusable_model")


def _needs_package(source: str, error: ImportError) -> MissingWeights:
    rows = (row for row in LANGUAGE_MODELS.values() if row.source == source)
    package = next((row.package for row in rows), "")
    if package:
        problem = f"The tokenizer of {source} needs the package {package}."
        return MissingWeights(problem, f"Run: pip install {package}", code="missing_package")
    return MissingWeights(
        f"{source} needs a package that is not here: {_first_line(error)}",
        "Install it, or choose another model.",
        code="missing_package",
    )


def check_complete(source: str, loading: Mapping[str, Any]) -> None:
    """Transformers fills what is missing with random numbers and only warns; here it is an error.

    Left-over tensors are tolerated: older checkpoints hold buffers that are computed nowadays.
    """
    mismatched = (entry[0] for entry in loading["mismatched_keys"])
    wrong = sorted({*loading["missing_keys"], *mismatched})
    wrapped = next(filter(None, map(WRAPPED.match, loading["unexpected_keys"])), None)
    if wrong and wrapped:
        raise CorruptWeights(
            f"The names of the weights of {source} begin with {wrapped[0]}, which torch.compile, "
            "DataParallel or Lightning has put there.",
            "Save the model inside again, such as model._orig_mod.save_pretrained(FOLDER).",
            code="wrapped_weights",
        )
    if wrong:
        raise CorruptWeights(
            f"The weights of the language model {source} do not fit its configuration "
            f"({len(wrong)} tensors, such as {wrong[0]}).",
            "Restore or download the model again.",
            code="corrupt_weights",
        )


def _first_line(error: Exception) -> str:
    """The first line of an error message; transformers adds advice on further lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    kind = type(error).__name__  # of a look-up: its text is a name alone
    text = f"{kind} {text}" if isinstance(error, LookupError) else text or kind
    return text.rstrip(".") + "."
