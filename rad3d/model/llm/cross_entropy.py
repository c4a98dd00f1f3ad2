"""Cross-entropy over a large vocabulary in pieces, exactly, without ever holding all scores.

With 262,144 words the scores of 16 reports of 300 tokens are 5 GB, their logarithms and gradients
as much again. Here some rows at a time are scored, and what the loss and its gradient need of them
is kept (as in Liger, arXiv 2410.10989, and Cut Cross-Entropy, arXiv 2411.09009, whose kernels need
a GPU).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PIECE = 2**25
"""Scores that are made at once: 134 MB in float32. Fewer than that are not worth pieces."""

HELD = 3
"""The scores of a piece, and what is held of the same size on the way."""


def in_pieces(tokens: int, vocabulary: int) -> bool:
    """True where the scores of so many tokens are so many that they are made in pieces."""
    return tokens * vocabulary > PIECE


def piece_bytes(tokens: int, vocabulary: int) -> int:
    """Bytes of scores that exist for a moment while the loss of so many tokens is computed."""
    scores = tokens * vocabulary
    return 4 * (HELD * PIECE if in_pieces(tokens, vocabulary) else scores)


def is_plain_head(model: Any) -> bool:
    """True where a causal model's scores are a linear map of its last hidden states and no more.

    Some families cap or scale their scores afterwards. This is tried on two tokens.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or model.base_model is model:
        return False
    training = [module for module in model.modules() if module.training]
    model.eval()  # dropout would differ from pass to pass
    try:
        ids = torch.tensor([[1, 2]], device=head.weight.device)
        with torch.no_grad():
            scores = model(ids, use_cache=False).logits.float()
            states = model.base_model(ids, use_cache=False).last_hidden_state
            return bool(torch.allclose(head(states).float(), scores, rtol=1e-4, atol=1e-4))
    except (AttributeError, RuntimeError, TypeError):
        return False
    finally:
        for module in training:
            module.training = True


def cross_entropy_in_pieces(
    states: Tensor, head: nn.Module, targets: Tensor, shares: Tensor
) -> Tensor:
    """The sum over tokens of share times cross-entropy.

    Args:
        states: (N, H) last hidden states.
        head: the output layer.
        targets: (N,) ids of the words that follow.
        shares: (N,) how much each token counts; where it is 0, the target does not matter.
    """
    loss: Tensor = _InPieces.apply(
        states, head.weight, head.bias, targets.clamp(min=0), shares.float()
    )
    return loss


def _in_the_dtype_of_autocast(states: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both operands as a product under autocast would take them; once, and not for each piece."""
    device = weight.device.type
    lower = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if lower else weight.dtype
    return states.to(dtype), weight.to(dtype)


class _InPieces(torch.autograd.Function):
    """The forward pass makes the gradients as well, since it has the scores in hand."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor,
        shares: Tensor,
    ) -> Tensor:  # fmt: skip
        wanted = ctx.needs_input_grad
        by_state = torch.zeros_like(states) if wanted[0] else None
        by_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        by_bias = (
            torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wanted[2] else None
        )
        loss = states.new_zeros((), dtype=torch.float32)
        inputs, table = _in_the_dtype_of_autocast(states, weight)
        rows = max(PIECE // weight.shape[0], 1)
        with torch.autocast(weight.device.type, enabled=False):
            for start in range(0, len(states), rows):
                piece = slice(start, start + rows)
                scores = F.linear(inputs[piece], table).float()
                if bias is not None:
                    scores += bias
                place = targets[piece, None]
                logs = scores.logsumexp(dim=1, keepdim=True)
                loss += ((logs - scores.gather(1, place))[:, 0] * shares[piece]).sum()
                if not any(wanted[:3]):
                    continue
                scores.sub_(logs).exp_()
                scores.scatter_add_(1, place, scores.new_full((), -1.0).expand(place.shape))
                slopes = scores.mul_(shares[piece, None])
                if by_bias is not None:
                    by_bias += slopes.sum(dim=0)
                if by_weight is not None:
                    by_weight.addmm_(slopes.T, inputs[piece].float())
                if by_state is not None:
                    by_state[piece] = (slopes.to(table.dtype) @ table).to(states.dtype)
        ctx.save_for_backward(by_state, by_weight, by_bias)
        ctx.dtypes = weight.dtype, None if bias is None else bias.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        by_state, by_weight, by_bias = ctx.saved_tensors
        (slope,) = slopes
        return (
            None if by_state is None else by_state * slope.to(by_state.dtype),
            None if by_weight is None else (by_weight * slope).to(ctx.dtypes[0]),
            None if by_bias is None else (by_bias * slope).to(ctx.dtypes[1]),
            None,
            None,
        )
