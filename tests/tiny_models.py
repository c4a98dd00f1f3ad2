"""Tiny random models of several families, and an encoder that counts, for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.initialization import no_init_weights

from rad3d.core.encoders import ENCODERS
from rad3d.core.labels import CT_RATE, N_LABELS
from rad3d.core.language_models import LANGUAGE_MODELS
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings
from rad3d.core.types import Diagnosis, FloatArray, Novelty, Volume
from rad3d.model.encoders.base import Encoding, LoadedEncoder
from rad3d.model.encoders.calibration import Calibration
from rad3d.model.identity import weights_hash
from rad3d.model.llm.architectures import whole_output_input
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.store import ModelStore
from rad3d.model.variants.reporter import PrefixReporter
from rad3d.model.variants.variant import VariantConfig, variant_directory
from rad3d.volume.grid import GridSpec

LINES = (
    "Findings: The lungs are clear. No pleural effusion.\nImpression: Normal chest CT.",
    "Findings: A nodule of 8 mm in the right upper lobe. Mild emphysema.\nImpression: Nodule.",
    "Summary: emphysema, left pleural effusion.\nReport: Findings: Small left pleural effusion.",
)
LATENT_DIM = 32
GRID = GridSpec(shape=(8, 8, 8), spacing_mm=(8.0, 8.0, 8.0))


def tiny_tokenizer() -> Any:
    """A byte-level BPE tokenizer trained on a few lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )


_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_GATED = {**_SIZES, "num_key_value_heads": 2, "intermediate_size": 64}
_LONG = {"max_position_embeddings": 256}
_PLAIN = {**_SIZES, **_LONG, "intermediate_size": 64}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**_GATED, **_LONG},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gpt_neox": _PLAIN,
    "biogpt": _PLAIN,
    "opt": {**_SIZES, **_LONG, "ffn_dim": 64},
    "gemma3_text": {**_GATED, **_LONG, "head_dim": 8, "sliding_window": 8},
}
"""Families of the table, and OPT, whose positions begin at 2 -> sizes of a tiny configuration."""

OTHERS: dict[str, dict[str, Any]] = {
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "falcon": {**_SIZES, **_LONG, "alibi": True},
    "mistral": {**_GATED, **_LONG, "sliding_window": 8},
    "gemma2": {
        **_GATED, **_LONG, "head_dim": 8, "sliding_window": 8, "final_logit_softcapping": 9.0,
    },
    "olmo_hybrid": {
        **_GATED, **_LONG, "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
}  # fmt: skip
"""Families that nobody listed: a state in place of keys and values; distances in place of
positions; a window shorter than the text; embeddings scaled outside their module, and capped
scores; layers with a state among others."""

CACHELESS = {"openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}}
"""A family that keeps nothing of what it has read."""


def tiny_language(family: str = "llama", seed: int = 0) -> LanguageBundle:
    """A random model with weights large enough that its texts vary."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    sizes = {**FAMILIES, **OTHERS, **CACHELESS}[family]
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **ids, **sizes)
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.25)
        # With tied weights, large embeddings would repeat the last token, or choose padding.
        model.get_input_embeddings().weight.mul_(0.1)[0] = 0.0
    return LanguageBundle(model, tokenizer, f"tiny-{family}")


def save_language(language: LanguageBundle, directory: Path) -> Path:
    """Write a model in the standard layout."""
    language.model.save_pretrained(directory)
    language.tokenizer.save_pretrained(directory)
    return directory


def random_model(
    config: PreTrainedConfig, dtype: torch.dtype = torch.float32, device: str = "cpu", seed: int = 0
) -> Any:
    """The causal model of a configuration with small random weights, in eval mode.

    Weights are cut from one pool of random numbers: filling billions one by one takes minutes.
    """
    generator = torch.Generator().manual_seed(seed)
    pool = (torch.randn(2**22, generator=generator) * 0.02).to(device, dtype)
    with no_init_weights(), torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    model.tie_weights()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(1.0 if "norm" in name or "ln_" in name else 0.0)
                continue
            flat = parameter.view(-1)
            for start in range(0, flat.numel(), len(pool)):
                piece = flat[start : start + len(pool)]
                piece.copy_(pool[: len(piece)])
    whole_output_input(model)
    return model.eval()


def sized_config(family: str, **sizes: int) -> Any:
    """A configuration of a listed family: by default 3 layers, width 128, 4 heads, 600 words."""
    own: dict[str, dict[str, Any]] = {
        "gpt2": {},
        "gpt_neox": {"intermediate_size": 512, "tie_word_embeddings": False},
        "biogpt": {"intermediate_size": 512},
        "llama": {"intermediate_size": 320, "num_key_value_heads": 2, "tie_word_embeddings": True},
    }
    shape = {"num_hidden_layers": 3, "hidden_size": 128, "num_attention_heads": 4}
    shape |= {"vocab_size": 600, "max_position_embeddings": 256, **sizes}
    return AutoConfig.for_model(family, **{**own[family], **shape})


SIZED = ("gpt2", "gpt_neox", "biogpt", "llama")
"""Families of :func:`sized_config`."""


class CountingEncoder:
    """The interface of a loaded encoder on simple arithmetic; counts what it is asked."""

    def __init__(self, limit: float = 1e9) -> None:
        self.id = "phantom-cnn"
        self.grid = GRID
        self.embedding_dim = LATENT_DIM
        self.label_set = CT_RATE
        self.calibration: Calibration | None = None
        self.encoded = 0
        self.limit = limit
        self._mix = np.random.default_rng(0).normal(size=(512, LATENT_DIM)).astype(np.float32)

    def encode(self, values: FloatArray) -> Encoding:
        """Mix the voxels."""
        self.encoded += 1
        pooled = np.tanh(values.reshape(-1) @ self._mix)
        return Encoding(
            pooled, values[None], Novelty(float(np.abs(pooled).sum()), 50.0, self.limit)
        )

    def diagnose(self, pooled: FloatArray, readings: FloatArray | None = None) -> Diagnosis:
        """The first 18 numbers of the embedding."""
        logits = pooled[:N_LABELS].astype(np.float64) * 4
        return Diagnosis(logits, 1 / (1 + np.exp(-logits)), np.full(N_LABELS, 0.5), source=self.id)


def volume(seed: int = 0) -> Volume:
    """A small random scan."""
    hu = np.random.default_rng(seed).integers(-1000, 1000, (16, 16, 16)).astype(np.int16)
    return Volume.from_array(hu, np.diag([4.0, 4.0, 4.0, 1.0]), name=f"scan {seed}")


def save_shipped(models_dir: Path, llm: str = "phantom-s", modes: tuple[str, ...] = ()) -> None:
    """A models folder with one tiny language model, its variants, and an encoder's place."""
    source = LANGUAGE_MODELS[llm].source
    encoder = models_dir / ENCODERS["phantom-cnn"].source
    encoder.mkdir(parents=True, exist_ok=True)
    (encoder / "config.json").write_text("{}")
    save_language(tiny_language("llama"), models_dir / source)
    for seed, mode in enumerate(modes or MODES):
        torch.manual_seed(seed)
        config = VariantConfig(
            llm=llm,
            mode=mode,
            llm_source=source,
            llm_sha256=weights_hash(models_dir / source),
            encoder="phantom-cnn",
            preprocessing=GRID.id,
            latent_dim=LATENT_DIM,
            token_dim=1,
            projector=MODES[mode].projector,
            prefix_length=64 if mode == "r2gengpt" else min(4, MODES[mode].prefix_length),
            clip_length=3,
            layers=1,
            heads=4,
        )
        reporter = PrefixReporter(config, tiny_language("llama"))
        reporter.save_pretrained(variant_directory(models_dir, config.id), dtype=torch.float32)


class FakeEncoderStore(ModelStore):
    """The real store, with the counting encoder in place of a trained one."""

    def __init__(self, settings: Settings, encoder: CountingEncoder) -> None:
        super().__init__(settings)
        self.fake = encoder

    def encoder(self, encoder_id: str) -> LoadedEncoder:
        """The counting encoder."""
        return self.fake


def grad_of(parameter: torch.Tensor) -> torch.Tensor:
    """The gradient, which must be there."""
    assert parameter.grad is not None
    return parameter.grad
