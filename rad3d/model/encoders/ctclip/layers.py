"""Layers of the CT-ViT, for inference: they add into the residual stream in place.

Parameters carry the published names. Linear maps run in the dtype of their weights; norms, the
residual stream, attention and positions stay in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ATTENTION_SCALE = 8.0
"""Factor of the cosine similarities of queries and keys."""

LEAK = 0.1
"""Slope of the LeakyReLU of the position bias."""

ROWS = 2048
"""Tokens at a time in the feed-forward: its hidden layer is 5.3 times as wide as a token."""

ALIGN = 32
"""Hidden widths are padded to a multiple of this: matrix products of 2752 columns take 0.7 times
as long as those of 2730 (AVX-512)."""

Trace = Callable[[str, Tensor], None]
"""Called with name and value of every stage; the value is overwritten, so clone it to keep it."""


def ignore(_name: str, _value: Tensor) -> None:
    """The trace that looks at nothing."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T`` in the weight's dtype, plus ``bias``, as float32."""
    if weight.dtype == torch.float32:
        return F.linear(x, weight, bias)
    product = F.linear(x.to(weight.dtype), weight).float()
    return product if bias is None else product.add_(bias)


class Norm(nn.Module):
    """Layer norm whose shift ``beta`` was never trained but is read all the same."""

    beta: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))
        self.register_buffer("beta", torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return F.layer_norm(x, self.gamma.shape, self.gamma, self.beta)


class Peg(nn.Module):
    """Position encoding generator: a depthwise 3 x 3 x 3 convolution, causal in its first axis."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dsconv = nn.Conv3d(dim, dim, 3, groups=dim)

    def forward(self, x: Tensor, grid_thw: tuple[int, int, int]) -> Tensor:
        """(N, M, dim) contiguous tokens, seen as (B, t, h, w, dim) -> the same shape.

        The view is by memory order. The temporal transformer's tokens lie as ((b h w), t, dim), so
        there its axes do not mean what their names say; the weights were trained that way.
        """
        grid = x.view(-1, *grid_thw, x.shape[-1]).permute(0, 4, 1, 2, 3)
        # Padded by 2 at both ends of its first axis and cut at the far one: causal without a copy.
        weight, bias, groups = self.dsconv.weight, self.dsconv.bias, self.dsconv.groups
        convolved = F.conv3d(grid, weight, bias, padding=(2, 1, 1), groups=groups)[:, :, :-2]
        return convolved.permute(0, 2, 3, 4, 1).reshape(x.shape)


class Attention(nn.Module):
    """Multi-head attention on unit-length queries and keys.

    Queries come from the normalised tokens, keys and values from the tokens as they are.
    """

    def __init__(self, dim: int, dim_head: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(dim)
        self.q_scale = nn.Parameter(torch.ones(dim_head))
        self.k_scale = nn.Parameter(torch.ones(dim_head))
        self.to_q = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_kv = nn.Linear(dim, 2 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, dim, bias=False)

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, heads * dim_head) -> (B, heads, N, dim_head)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """(B, N, dim), (heads, N, N) or None -> (B, N, dim)."""
        queries = self._split(linear(self.norm(x), self.to_q.weight))
        keys, values = linear(x, self.to_kv.weight).chunk(2, dim=-1)
        queries = F.normalize(queries, dim=-1) * (self.q_scale * ATTENTION_SCALE)
        keys = F.normalize(self._split(keys), dim=-1) * self.k_scale
        mixed = F.scaled_dot_product_attention(
            queries,
            keys,
            self._split(values),
            attn_mask=None if bias is None else bias[None],
            scale=1.0,
        )
        return linear(mixed.transpose(1, 2).reshape(*x.shape[:2], -1), self.to_out.weight)


class FeedForward(nn.Module):
    """Layer norm, a gated hidden layer, and back; hidden widths padded to :data:`ALIGN`.

    State dicts have the published, unpadded shapes.
    """

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.inner = inner
        self.padded = -(-inner // ALIGN) * ALIGN
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Parameter(torch.zeros(2, self.padded, dim))
        self.down = nn.Parameter(torch.zeros(dim, self.padded))
        with torch.no_grad():
            nn.init.normal_(self.up[:, :inner], std=dim**-0.5)
            nn.init.normal_(self.down[:, :inner], std=inner**-0.5)
        self.register_state_dict_post_hook(_published_names)
        self.register_load_state_dict_pre_hook(_padded_names)

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim) -> (N, dim)."""
        up = self.up.flatten(0, 1)
        value, gate = F.linear(self.norm(x).to(up.dtype), up).chunk(2, dim=-1)
        return F.linear(F.gelu(gate).mul_(value), self.down).float()


def _published_names(module: nn.Module, state: dict[str, Any], prefix: str, _meta: Any) -> None:
    """``norm``, ``up``, ``down`` -> ``0``, ``1``, ``4`` as published, without the padding."""
    inner = cast(FeedForward, module).inner
    for name in ("weight", "bias"):
        state[f"{prefix}0.{name}"] = state.pop(f"{prefix}norm.{name}")
    state[f"{prefix}1.weight"] = state.pop(f"{prefix}up")[:, :inner].flatten(0, 1)
    state[f"{prefix}4.weight"] = state.pop(f"{prefix}down")[:, :inner]


def _padded_names(
    module: nn.Module, state: dict[str, Any], prefix: str, *_unused: Any, **_also: Any
) -> None:
    """The inverse of :func:`_published_names`; what is missing or misshapen torch will name."""
    own = cast(FeedForward, module)
    pad = own.padded - own.inner
    for name in ("weight", "bias"):
        if f"{prefix}0.{name}" in state:
            state[f"{prefix}norm.{name}"] = state.pop(f"{prefix}0.{name}")
    up, down = state.pop(f"{prefix}1.weight", None), state.pop(f"{prefix}4.weight", None)
    if up is not None and up.shape[0] == 2 * own.inner:
        up = F.pad(up.unflatten(0, (2, own.inner)), (0, 0, 0, pad))
    if down is not None and down.shape[-1] == own.inner:
        down = F.pad(down, (0, pad))
    state |= {f"{prefix}{k}": v for k, v in (("up", up), ("down", down)) if v is not None}


class PositionBias(nn.Module):
    """Continuous relative position bias on a 2-D grid (Liu et al. 2021, arXiv 2111.09883).

    The network is asked once for each of the (2h - 1)(2w - 1) offsets, not for each of the (hw)^2
    pairs of tokens.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.net = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(2, dim), nn.LeakyReLU(LEAK)),
                nn.Sequential(nn.Linear(dim, dim), nn.LeakyReLU(LEAK)),
                nn.Linear(dim, heads),
            ]
        )

    def forward(self, h: int, w: int) -> Tensor:
        """(heads, h * w, h * w): added to the attention logits of query i and key j."""
        device = cast(Tensor, self.net[2].weight).device
        offsets = [torch.arange(1 - n, n, device=device) for n in (h, w)]
        grid = torch.stack(torch.meshgrid(*offsets, indexing="ij"), dim=-1).flatten(0, 1)
        x = torch.sign(grid) * torch.log(grid.abs() + 1)
        for layer in self.net:
            x = layer(x)
        rows, columns = (
            torch.arange(n, device=device)[:, None] - torch.arange(n, device=device) + n - 1
            for n in (h, w)
        )
        place = rows[:, None, :, None] * (2 * w - 1) + columns[None, :, None, :]
        return x.T[:, place.reshape(h * w, h * w)].contiguous()


class Layer(nn.ModuleDict):
    """Position encoding, attention and feed-forward, each added to the residual stream."""

    def __init__(self, dim: int, dim_head: int, heads: int, inner: int) -> None:
        super().__init__(
            {"0": Peg(dim), "1": Attention(dim, dim_head, heads), "3": FeedForward(dim, inner)}
        )

    def run(
        self,
        x: Tensor,
        grid_thw: tuple[int, int, int],
        bias: Tensor | None,
        trace: Trace,
        name: str,
    ) -> None:
        """Change (B, N, dim) in place."""
        x += self["0"](x, grid_thw)
        trace(f"{name}.after_peg", x)
        x += self["1"](x, bias)
        trace(f"{name}.after_attn", x)
        for rows in x.view(-1, x.shape[-1]).split(ROWS):
            rows += self["3"](rows)
        trace(f"{name}.after_ff", x)


class Transformer(nn.Module):
    """A stack of layers and a final norm."""

    def __init__(self, depth: int, dim: int, dim_head: int, heads: int, inner: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(dim, dim_head, heads, inner) for _ in range(depth))
        self.norm_out = Norm(dim)

    def forward(
        self,
        x: Tensor,
        grid_thw: tuple[int, int, int],
        bias: Tensor | None = None,
        trace: Trace = ignore,
        name: str = "",
    ) -> Tensor:
        """(B, N, dim) contiguous, overwritten -> (B, N, dim)."""
        for i, layer in enumerate(self.layers):
            cast(Layer, layer).run(x, grid_thw, bias, trace, f"{name}.{i}")
        return self.norm_out(x)
