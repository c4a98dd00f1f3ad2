"""Projectors: from the image embedding and the diagnostic logits to a prefix of soft tokens.

:class:`TransformerProjector` is the transformer mapper of ClipCap (Mokady et al. 2021, arXiv
2111.09734), with its parameter names, so that a ClipCap-style state dict loads strictly.
:class:`LinearProjector` is the linear ablation. Both map (B, dim_input) to (B, prefix_length,
width). What they are given is made by :class:`InputScaling`. :class:`TokenProjector` reads the
encoder's tokens; those that read findings are in :mod:`rad3d.model.variants.word_projectors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rad3d.core.errors import BadRequest
from rad3d.core.lookup import lookup, resolve
from rad3d.core.modes import PROJECTORS
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.tensor_files import without_numbers
from rad3d.model.variants.variant import VariantConfig

CLIPCAP_PREFIX = "clip_project."
"""Prefix of the mapper's keys in a whole ClipCap model."""


class Attention(nn.Module):
    """Multi-head self-attention without bias on queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_queries = nn.Linear(width, width, bias=False)
        self.to_keys_values = nn.Linear(width, 2 * width, bias=False)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        b, n, width = x.shape
        split = (b, n, self.heads, width // self.heads)
        queries = self.to_queries(x).view(split).transpose(1, 2)
        keys, values = self.to_keys_values(x).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(
            queries, keys.view(split).transpose(1, 2), values.view(split).transpose(1, 2)
        )
        return self.project(mixed.transpose(1, 2).reshape(b, n, width))


class Mlp(nn.Module):
    """Two linear maps with a ReLU between them; the hidden layer is twice as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        return self.fc2(F.relu(self.fc1(x)))


class Layer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A stack of layers; no final norm, no positions, no mask."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        for layer in self.layers:
            x = layer(x)
        return x


class TransformerProjector(nn.Module):
    """Maps the prefix input to ``clip_length`` tokens, and by a transformer to the prefix.

    Args:
        dim_input: size of the condition (512 latent, or 530 with 18 logits).
        width: width of the language model.
        prefix_length: soft tokens given to the language model, and number of constants.
        clip_length: tokens made from the condition.
        layers, heads: of the transformer.

    Raises:
        BadRequest: the width cannot be divided among the heads.
    """

    reads = "condition"

    def __init__(
        self,
        dim_input: int,
        width: int,
        prefix_length: int = 10,
        clip_length: int = 10,
        layers: int = 8,
        heads: int = 8,
    ) -> None:
        super().__init__()
        if width % heads:
            raise BadRequest(f"A projector of width {width} cannot have {heads} heads.")
        self.dim_input, self.width = dim_input, width
        self.prefix_length, self.clip_length = prefix_length, clip_length
        self.transformer = Transformer(width, layers, heads)
        self.linear = nn.Linear(dim_input, clip_length * width)
        self.prefix_const = nn.Parameter(torch.randn(prefix_length, width))

    @classmethod
    def of(cls, config: VariantConfig, language: LanguageBundle) -> TransformerProjector:
        """The projector of a variant, before it is trained."""
        sizes = (config.prefix_length, config.clip_length, config.layers, config.heads)
        return cls(config.condition_dim, language.width, *sizes)

    def forward(self, condition: Tensor) -> Tensor:
        """(B, dim_input) -> (B, prefix_length, width)."""
        b = condition.shape[0]
        tokens = self.linear(condition).view(b, self.clip_length, self.width)
        constants = self.prefix_const.expand(b, -1, -1)
        return self.transformer(torch.cat((tokens, constants), dim=1))[:, self.clip_length :]


class LinearProjector(nn.Module):
    """The condition -> prefix through one linear map."""

    reads = "condition"

    def __init__(self, dim_input: int, width: int, prefix_length: int = 10) -> None:
        super().__init__()
        self.dim_input, self.width, self.prefix_length = dim_input, width, prefix_length
        self.linear = nn.Linear(dim_input, prefix_length * width)

    @classmethod
    def of(cls, config: VariantConfig, language: LanguageBundle) -> LinearProjector:
        """The projector of a variant, before it is trained."""
        return cls(config.condition_dim, language.width, config.prefix_length)

    def forward(self, condition: Tensor) -> Tensor:
        """(B, dim_input) -> (B, prefix_length, width)."""
        return self.linear(condition).view(condition.shape[0], self.prefix_length, self.width)


class TokenProjector(nn.Module):
    """Visual tokens -> as many soft tokens, each through the same linear map.

    R2GenGPT's shallow alignment (Wang et al. 2023, arXiv 2309.09812).
    """

    reads = "tokens"

    def __init__(self, token_dim: int, width: int, prefix_length: int) -> None:
        super().__init__()
        self.prefix_length = prefix_length
        self.linear = nn.Linear(token_dim, width)

    @classmethod
    def of(cls, config: VariantConfig, language: LanguageBundle) -> TokenProjector:
        """The projector of a variant, before it is trained."""
        return cls(config.token_dim, language.width, config.prefix_length)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, prefix_length, token_dim) -> (B, prefix_length, width)."""
        return self.linear(tokens)


class InputScaling(nn.Module):
    """Makes the condition vector: [latent, logits], each standardised and weighted.

    The default is the paper's plain concatenation: weights 1, mean 0, standard deviation 1.
    Means and standard deviations are buffers, saved with the projector, never trained.

    Args:
        latent_dim: size of the image embedding.
        logits_dim: number of logits, 0 where the variant does not use them.
        latent, logits: weights applied after standardising.
    """

    latent_mean: Tensor
    latent_std: Tensor
    logits_mean: Tensor
    logits_std: Tensor

    def __init__(
        self, latent_dim: int, logits_dim: int, latent: float = 1.0, logits: float = 1.0
    ) -> None:
        super().__init__()
        self.latent_dim, self.logits_dim = latent_dim, logits_dim
        self.latent, self.logits = latent, logits
        self.register_buffer("latent_mean", torch.zeros(latent_dim))
        self.register_buffer("latent_std", torch.ones(latent_dim))
        self.register_buffer("logits_mean", torch.zeros(logits_dim))
        self.register_buffer("logits_std", torch.ones(logits_dim))

    @property
    def dim(self) -> int:
        """Size of the condition vector."""
        return self.latent_dim + self.logits_dim

    def fit(self, latents: Tensor, logits: Tensor | None = None) -> None:
        """Take mean and standard deviation per dimension from the training set.

        Nothing is taken from latents that the variant does not use.

        Args:
            latents: (N, latent_dim), N of at least 2.
            logits: (N, L), needed where the variant uses them.
        """
        if self.latent_dim:
            self.latent_mean.copy_(latents.float().mean(dim=0))
            self.latent_std.copy_(latents.float().std(dim=0).clamp_min(1e-4))
        if self.logits_dim:
            values = self._need(logits).float()
            self.logits_mean.copy_(values.mean(dim=0))
            self.logits_std.copy_(values.std(dim=0).clamp_min(1e-4))

    def forward(self, latent: Tensor, logits: Tensor | None = None) -> Tensor:
        """(B, latent_dim), (B, L) or None -> (B, dim) float32."""
        latent = (latent.float() - self.latent_mean) / self.latent_std * self.latent
        if not self.logits_dim:
            return latent
        values = self._need(logits).float()
        values = (values - self.logits_mean) / self.logits_std * self.logits
        return torch.cat((latent, values), dim=1)

    def _need(self, logits: Tensor | None) -> Tensor:
        if logits is None:
            raise BadRequest("This variant makes its prefix from the logits; give them as well.")
        return logits


class Projector(Protocol):
    """What every projector of the registry has, besides being a module of torch.

    Attributes:
        reads: ``"condition"`` (B, D), the scaled embedding and logits; ``"tokens"`` (B, N, C); or
            ``"bits"`` (B, L + A) of findings.
        prefix_length: soft tokens that it makes.
    """

    reads: str
    prefix_length: int

    def __call__(self, given: Tensor) -> Tensor:
        """What it reads -> (B, prefix_length, H)."""


def new_projector(config: VariantConfig, language: LanguageBundle) -> nn.Module:
    """The projector of a variant before training; raises :class:`UnknownName` for an unknown row.

    The result is a :class:`Projector` as well.
    """
    projector: nn.Module = resolve(lookup("projector", PROJECTORS, config.projector)).of(
        config, language
    )
    return projector


def clipcap_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mapper's part of a ClipCap-style state dict in float32, ready for a strict load.

    A whole ClipCap model keeps it below ``clip_project.``, beside the language model; a bare
    mapper's state dict is returned as it is.

    Raises:
        BadRequest: a tensor holds something else than finite floating-point numbers.
    """
    mapper = {
        key.removeprefix(CLIPCAP_PREFIX): value
        for key, value in state.items()
        if key.startswith(CLIPCAP_PREFIX)
    } or dict(state)
    if wrong := without_numbers(mapper):
        raise _no_mapper(f"there are no plain numbers in {', '.join(wrong[:4])}")
    return {key: value.to(torch.float32) for key, value in mapper.items()}


def projector_from_clipcap(state: Mapping[str, Tensor], heads: int = 8) -> TransformerProjector:
    """A projector with the sizes of a ClipCap-style state dict and its float32 tensors themselves.

    Args:
        state: of a bare mapper or of a whole ClipCap model.
        heads: of its attention, which no tensor tells.

    Raises:
        BadRequest: it holds no transformer mapper, or anything besides one.
    """
    mapper = clipcap_state_dict(state)
    try:
        prefix_length, width = mapper["prefix_const"].shape
        rows, dim_input = mapper["linear.weight"].shape
        layers = {key.split(".")[2] for key in mapper if key.startswith("transformer.layers.")}
        with torch.device("meta"):
            projector = TransformerProjector(
                dim_input, width, prefix_length, rows // width, len(layers), heads
            )
        projector.load_state_dict(mapper, strict=True, assign=True)
    except KeyError as error:
        raise _no_mapper(f"there is no {error.args[0]}") from error
    except (ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        raise _no_mapper(str(error).splitlines()[-1].strip().rstrip(".")) from error
    return projector


def _no_mapper(reason: str) -> BadRequest:
    return BadRequest(
        f"This is no ClipCap transformer mapper ({reason}).",
        "Give the state dict of a TransformerMapper, or of a whole ClipCap model.",
        code="not_clipcap",
    )
