"""Causal language models of any family, and what is needed to prompt them with embeddings.

A prefix goes in through ``inputs_embeds``, so tokens beside it must be embedded exactly as the
model would embed them itself. In transformers the input-embedding *module* holds family
peculiarities (BioGPT multiplies by sqrt(width) inside it), so calling it is right for every
family; reading its weight matrix is not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from rad3d.errors import BadRequest, CorruptWeights, MissingWeights

DTYPES: dict[str, torch.dtype | str] = {
    "auto": "auto",
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class LanguageBundle:
    """A language model with its tokenizer.

    Attributes:
        model: a transformers causal model, in eval mode.
        tokenizer: the matching tokenizer.
        source: local directory (name below the models folder) or hub id.
        sha256: hash of a local model's weights (see :func:`weights_hash`), empty for a hub model.
    """

    model: Any
    tokenizer: Any
    source: str
    sha256: str = ""

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
        """Start token, or None where the tokenizer has none."""
        return self.tokenizer.bos_token_id

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
        """Number of parameters, tied ones counted once."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def nbytes(self) -> int:
        """Memory of the weights in bytes."""
        tensors = (*self.model.parameters(), *self.model.buffers())
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


def offline() -> bool:
    """True where the environment forbids downloads (the hub's own variables)."""
    flags = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(flag.upper() in {"1", "TRUE", "YES", "ON"} for flag in flags)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights_hash(directory: Path) -> str:
    """SHA-256 over the names and contents of a model directory's safetensors files."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")):
        digest.update(f"{path.name}:{file_hash(path)};".encode())
    return digest.hexdigest()


def find_language_model(source: str, models_dir: Path | None = None) -> Path | None:
    """The local directory that ``source`` names, or None where it must come from the hub."""
    places = [models_dir / source] if models_dir else []
    for place in (*places, Path(source).expanduser()):
        if (place / "config.json").is_file():
            return place
    return None


def load_language_model(
    source: str,
    *,
    models_dir: Path | None = None,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    sha256: str = "",
) -> LanguageBundle:
    """Load model and tokenizer; only safetensors, never remote code.

    Args:
        source: directory below ``models_dir``, any local directory, or a hub id.
        models_dir: where shipped and trained models lie.
        revision: of a hub model.
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"`` (as stored).
        device: a torch device.
        sha256: expected :func:`weights_hash` of a local model, where it is known.

    Raises:
        MissingWeights: neither here nor on the hub, gated, or the hub may not be asked.
        CorruptWeights: the weights differ from ``sha256`` or cannot be read.
        BadRequest: unknown dtype.
    """
    if dtype not in DTYPES:
        raise BadRequest(f"There is no precision {dtype!r}; known: {', '.join(DTYPES)}.")
    local = find_language_model(source, models_dir)
    found = weights_hash(local) if local else ""
    if sha256 and found and sha256 != found:
        raise CorruptWeights(
            f"The weights of the language model in {source} are not the ones its variants "
            "were trained with.",
            "Restore the directory from the repository or build it again with: rad3d demo build",
            code="corrupt_weights",
        )
    place = str(local or source)
    common: dict[str, Any] = {
        "revision": revision,
        "trust_remote_code": False,
        "local_files_only": local is not None or offline(),
    }
    if local:
        logging.disable_progress_bar()  # only a download is worth one
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **common)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            place,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, with a sentence
            **common,
        )
    except SafetensorError as error:
        raise CorruptWeights(
            f"The weights of the language model {source} cannot be read ({error}).",
            "Restore or download them again.",
            code="corrupt_weights",
        ) from error
    except (OSError, ValueError) as error:
        raise MissingWeights(
            f"The language model {source} could not be loaded: {_first_line(error)}",
            _remedy(source),
            code="missing_weights",
        ) from error
    finally:
        if local:
            logging.enable_progress_bar()
    model, loading = loaded
    _check_complete(source, loading)
    model.eval()
    model.to(torch.device(device))
    return LanguageBundle(model, tokenizer, source, found)


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


def _remedy(source: str) -> str:
    if source.startswith(("llms/", "variants/")):
        return "Make it with: rad3d demo build"
    if offline():
        return (
            f"Downloads are off: unset HF_HUB_OFFLINE, or put the model into a directory "
            f"called {source}."
        )
    return (
        "Check the name and the connection; where the model is gated, accept its licence on the "
        f"hub and log in. Then: hf download {source}"
    )
