"""Causal language models of any family, and what is needed to prompt them with embeddings.

A prefix goes in through ``inputs_embeds``, so tokens beside it must be embedded exactly as the
model would embed them itself. In transformers the input-embedding *module* holds family
peculiarities (BioGPT multiplies by sqrt(width) inside it), so calling it is right for every
family; reading its weight matrix is not.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging as transformers_logging

from rad3d.errors import BadRequest, CorruptWeights, MissingWeights
from rad3d.model.architectures import Size, count, meta_model, whole_output_input
from rad3d.model.precision import DTYPES
from rad3d.model.sources import (
    SAFETENSORS,
    Hub,
    Progress,
    find_local,
    obtain,
    pinned_revision,
    weight_files,
)
from rad3d.registry import LANGUAGE_MODELS, PRECISIONS, lookup

# It repeats, for every layer, that 8 bit computes in float16; and it looks for kernels on the hub.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@dataclass(frozen=True)
class LanguageBundle:
    """A language model with its tokenizer.

    Attributes:
        model: a transformers causal model, in eval mode.
        tokenizer: the matching tokenizer.
        source: local directory (name below the models folder) or hub id.
        sha256: hash of a local model's weights (see :func:`weights_hash`), empty for a hub model.
        revision: of a hub model, where one was asked for or the registry names it.
        precision: a key of :data:`rad3d.registry.PRECISIONS`.
        reason: why this precision and device, in a sentence.
    """

    model: Any
    tokenizer: Any
    source: str
    sha256: str = ""
    revision: str | None = None
    precision: str = "float32"
    reason: str = ""

    @property
    def width(self) -> int:
        """Size H of a token embedding."""
        return int(self.model.get_input_embeddings().embedding_dim)

    @property
    def device(self) -> torch.device:
        """Where embeddings are expected."""
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the embeddings."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def context(self) -> int:
        """Longest sequence in tokens, prefix and prompt included."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        return int(limit) if limit else 2048

    @property
    def bos_id(self) -> int | None:
        """The token that a text starts with, or None where there is none.

        It is what the tokenizer itself puts first (for BioGPT and OPT that is ``</s>``, which they
        learned to start from, not the ``<s>`` that they call their start token); where it puts
        nothing (GPT-2, GPT-NeoX), its start token, which separated the texts they learned from.
        """
        marked = [int(i) for i in self.tokenizer("a")["input_ids"]]
        plain = self.tokens("a")
        lead = marked[: marked.index(plain[0])] if plain and plain[0] in marked else []
        return lead[0] if lead else self.tokenizer.bos_token_id

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token that ends a text: the tokenizer's first, then those of the model."""
        found: list[int] = []
        generation = getattr(self.model, "generation_config", None)
        for value in (
            self.tokenizer.eos_token_id,
            getattr(generation, "eos_token_id", None),
            self.model.config.eos_token_id,
        ):
            ids = value if isinstance(value, (list, tuple)) else [value]
            found += [int(i) for i in ids if i is not None and int(i) not in found]
        return tuple(found)

    @property
    def pad_id(self) -> int:
        """A token to fill rows with; what it is does not matter, as it is never attended to."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else (self.eos_ids or (0,))[0]

    @property
    def parameters(self) -> int:
        """Number of parameters, tied ones counted once, packed ones unpacked."""
        return int(self.model.num_parameters())

    @property
    def nbytes(self) -> int:
        """Memory of the weights in bytes, with the scales of quantised ones."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        tensors += [scale for weight in self.model.parameters() for scale in _scales(weight)]
        return sum(t.numel() * t.element_size() for t in tensors)

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) token ids -> (B, T, H) embeddings, as the model itself makes them."""
        return self.model.get_input_embeddings()(ids.to(self.device))

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        ids = self.tokenizer(text, add_special_tokens=False, return_attention_mask=False)
        return [int(i) for i in ids["input_ids"]]

    def report_tokens(self, prompt: str, report: str) -> list[int]:
        """Ids of a report that follows the prompt after one space, with the end token.

        The report is tokenised together with its prompt, since some tokenizers mark the start of
        a text; where the cut falls inside a token, it is tokenised on its own.
        """
        head, whole = self.tokens(prompt), self.tokens(f"{prompt} {report.strip()}")
        tail = whole[len(head) :] if whole[: len(head)] == head else self.tokens(f" {report}")
        return tail + list(self.eos_ids[:1])

    def decode(self, ids: list[int]) -> str:
        """Text of generated ids, without special tokens and surrounding space."""
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text.strip()

    def freeze(self) -> None:
        """No gradients for any weight, eval mode."""
        module: nn.Module = self.model
        module.requires_grad_(False)
        module.eval()


def _scales(weight: Any) -> list[Tensor]:
    """The tensors with which bitsandbytes turns a quantised weight back into numbers."""
    state = getattr(weight, "quant_state", None)
    second = getattr(state, "state2", None)
    found = [
        getattr(weight, "SCB", None),
        *(getattr(part, name, None) for part in (state, second) for name in ("absmax", "code")),
    ]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_hash(directory: Path) -> str:
    """SHA-256 over the names and contents of a model directory's weight files."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")) or weight_files(directory):
        digest.update(f"{path.name}:{file_hash(path)};".encode())
    return digest.hexdigest()


def directory_size(directory: Path) -> Size:
    """Parameters of the model in a directory, from its configuration; reads no weights.

    Raises:
        CorruptWeights: it is not the configuration of a causal language model.
    """
    try:
        config = AutoConfig.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
        return count(meta_model(config))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorruptWeights(
            f"{directory.name} does not hold a causal language model that can be used here: "
            f"{_first_line(error)}",
            "Choose another one; models that bring their own code are not run.",
            code="corrupt_weights",
        ) from error


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
) -> LanguageBundle:
    """Load model and tokenizer; never remote code, and pickled weights only as plain tensors.

    Args:
        source: directory below ``models_dir``, any local directory, or a hub id.
        models_dir: where shipped and trained models lie.
        revision: of a hub model; None is the registry's, or else the main branch.
        precision: a key of :data:`rad3d.registry.PRECISIONS`.
        device: a torch device.
        sha256: expected :func:`weights_hash` of a local model, where it is known.
        hub: where to fetch from; the hub that the environment names by default.
        progress: told about a download.
        reason: why this precision and device; kept with the model.

    Raises:
        MissingWeights: neither here nor on the hub, gated, or the hub may not be asked.
        CorruptWeights: the weights differ from ``sha256`` or cannot be read.
        UnknownName: no such precision.
    """
    lookup("precision", PRECISIONS, precision)
    place = obtain(
        source, hub or Hub(), models_dir=models_dir, revision=revision, progress=progress
    )
    found = weights_hash(place) if find_local(source, models_dir) else ""  # the hub has checked it
    if sha256 and found and sha256 != found:
        raise CorruptWeights(
            f"The weights of the language model in {source} are not the ones its variants "
            "were trained with.",
            "Restore the directory from the repository or build it again with: rad3d demo build",
            code="corrupt_weights",
        )
    with _LOADING, _plainly(source):
        tokenizer = AutoTokenizer.from_pretrained(
            place, trust_remote_code=False, local_files_only=True
        )
        model = _load(place, source, precision, device)
    return LanguageBundle(
        model, tokenizer, source, found, revision or pinned_revision(source), precision, reason
    )


@contextmanager
def _plainly(source: str) -> Iterator[None]:
    """What transformers raises about the files of a model, in plain words."""
    transformers_logging.disable_progress_bar()  # it would show tensors, not a download
    try:
        yield
    except ImportError as error:
        raise _needs_package(source, error) from error
    except (SafetensorError, pickle.UnpicklingError) as error:
        raise CorruptWeights(
            f"The weights of the language model {source} cannot be read ({_first_line(error)})",
            "Restore or download them again.",
            code="corrupt_weights",
        ) from error
    except (OSError, ValueError) as error:
        raise MissingWeights(
            f"The language model {source} could not be loaded: {_first_line(error)}",
            "Restore or download it again.",
            code="missing_weights",
        ) from error
    finally:
        transformers_logging.enable_progress_bar()


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
    _check_complete(source, loading)
    if not options:
        model.to(torch.device(device))
    whole_output_input(model)
    return model.eval()


def quantisation(precision: str) -> BitsAndBytesConfig:
    """How bitsandbytes loads ``"8bit"`` or ``"4bit"``."""
    if precision == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[precision],
    )


def settle(bundle: LanguageBundle) -> None:
    """Run a 4-bit model once, before others share it.

    On processors with AVX-512 BF16, bitsandbytes rearranges each 4-bit weight in its first forward
    pass, which two threads must not do at the same time. Gradients through such a model are wrong
    afterwards, so it is for generation only.
    """
    if bundle.precision == "4bit":
        with torch.inference_mode():
            bundle.model(torch.zeros((1, 1), dtype=torch.long, device=bundle.device))


def keep_gradients(bundle: LanguageBundle) -> None:
    """Keep a 4-bit model from being rearranged for generation (:func:`settle`), so it can train."""
    for module in bundle.model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def recompute_layers(bundle: LanguageBundle) -> int:
    """Keep only the inputs of each layer for the backward pass, which computes the rest again.

    Transformers' own switch does nothing in evaluation mode, in which a frozen model stays.
    Returns the number of layers.

    Raises:
        BadRequest: the family is not built from such layers.
    """
    layers = [m for m in bundle.model.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not layers:
        raise BadRequest(
            f"{bundle.source} cannot compute its layers again.",
            "Train it without --gradient-checkpointing.",
            code="bad_option",
        )
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    return len(layers)


def outline(source: str, place: Path) -> LanguageBundle:
    """Tokenizer and sizes of the model in a directory, without its weights."""
    with _plainly(source):
        config = AutoConfig.from_pretrained(place, trust_remote_code=False, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(
            place, trust_remote_code=False, local_files_only=True
        )
    return LanguageBundle(meta_model(config), tokenizer, source)


def _needs_package(source: str, error: ImportError) -> MissingWeights:
    rows = (row for row in LANGUAGE_MODELS.values() if row.source == source)
    package = next((row.package for row in rows), "")
    return MissingWeights(
        f"The tokenizer of {source} needs the package {package or _first_line(error)}.",
        f"Run: pip install {package}" if package else "Install it.",
        code="missing_package",
    )


def _check_complete(source: str, loading: Mapping[str, Any]) -> None:
    """Transformers fills what is missing with random numbers and only warns; here it is an error.

    Left-over tensors are tolerated: older checkpoints hold buffers that are computed nowadays.
    """
    mismatched = (entry[0] for entry in loading["mismatched_keys"])
    wrong = sorted({*loading["missing_keys"], *mismatched})
    if wrong:
        raise CorruptWeights(
            f"The weights of the language model {source} do not fit its configuration "
            f"({len(wrong)} tensors, such as {wrong[0]}).",
            "Restore or download the model again.",
            code="corrupt_weights",
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".") + "."
