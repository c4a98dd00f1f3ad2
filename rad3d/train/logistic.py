"""Logistic regressions of labels on an embedding, with a strength of L2 for each.

All labels are fitted in one run of L-BFGS, as they share the embeddings; their problems stay apart.
They are posed in the principal axes of the embeddings, each axis scaled by the curvature that the
loss has along it, so that a few iterations are enough. The strength of each label is the one of the
least loss on held-out groups of cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from rad3d.core.types import FloatArray

Rows = npt.NDArray[np.intp]

STRENGTHS: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
"""Penalties that cross-validation chooses from, for embeddings of unit variance and a mean loss."""

STEPS = 100
"""Most iterations of L-BFGS; ten to thirty are the rule."""


@dataclass(frozen=True, eq=False)
class Regressions:
    """Fitted logistic regressions: the logits of (N, D) x are ``x @ weight.T + bias``.

    Attributes:
        weight: (L, D).
        bias: (L,).
        strength: (L,) of the L2 penalty, in units of :data:`STRENGTHS`.
    """

    weight: FloatArray
    bias: FloatArray
    strength: FloatArray

    def logits(self, x: FloatArray) -> FloatArray:
        """(N, D) -> (N, L)."""
        logits: FloatArray = x @ self.weight.T + self.bias
        return logits


def fit_regressions(
    x: FloatArray,
    labels: FloatArray,
    folds: list[tuple[Rows, Rows]],
    balanced: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Regressions:
    """Choose the strength of each label by cross-validation, then fit on all cases.

    Args:
        x: (N, D) embeddings.
        labels: (N, L), 0 or 1; each label occurs and is absent.
        folds: rows to fit on and rows to measure on.
        balanced: positive cases weigh as much as negative ones, all together.
        tell: receives a line for each fold.
    """
    losses = np.zeros((len(STRENGTHS), labels.shape[1]))
    for number, (rows, held_out) in enumerate(folds, 1):
        tell(f"fold {number} of {len(folds)}: {len(rows)} scans")
        losses += _held_out_losses(x, labels, rows, held_out, balanced)
    tell(f"all {len(x)} scans")
    strength = np.array(STRENGTHS)[losses.argmin(axis=0)]
    return _Problem(x, labels, _case_weights(labels, balanced)).solve(strength)


def fit_ridge(
    x: FloatArray,
    labels: FloatArray,
    ridge: float,
    known: FloatArray | None = None,
    offset: FloatArray | None = None,
) -> Regressions:
    """Fit at one strength: the sum of the losses of a label plus ``ridge`` times |weight|^2.

    Args:
        x: (N, D) embeddings.
        labels: (N, L), from 0 to 1.
        ridge: of embeddings of unit variance.
        known: (N, L) 1 where a label counts, 0 where nobody knows it; all by default.
        offset: (N, L) logits that are known already; what is fitted is added to them.
    """
    count = np.ones(labels.shape) if known is None else known
    total = np.maximum(count.sum(axis=0), 1)
    return _Problem(x, labels, count / total, offset).solve(2 * ridge / total)


def _held_out_losses(
    x: FloatArray, labels: FloatArray, rows: Rows, held_out: Rows, balanced: bool
) -> FloatArray:
    """(S, L) losses at each of :data:`STRENGTHS`; infinite beyond the one that helps no label."""
    problem = _Problem(x[rows], labels[rows], _case_weights(labels[rows], balanced))
    weights = _case_weights(labels[held_out], balanced)
    losses = np.full((len(STRENGTHS), labels.shape[1]), np.inf)
    for k, value in enumerate(STRENGTHS):
        logits = problem.solve(np.full(labels.shape[1], value)).logits(x[held_out])
        losses[k] = _losses(logits, labels[held_out], weights)
        if k and (losses[k] >= losses[:k].min(axis=0)).all():
            break
    return losses


def _case_weights(labels: FloatArray, balanced: bool) -> FloatArray:
    """(N, L) weights that sum to 1 for each label."""
    if not balanced:
        return np.full(labels.shape, 1 / len(labels))
    positives = labels.sum(axis=0)
    weights: FloatArray = np.where(
        labels == 1, 0.5 / np.maximum(positives, 1), 0.5 / np.maximum(len(labels) - positives, 1)
    )
    return weights


def _losses(logits: FloatArray, labels: FloatArray, weights: FloatArray) -> FloatArray:
    """(N, L) -> weighted cross-entropy of each label."""
    losses: FloatArray = (weights * (np.logaddexp(0, logits) - labels * logits)).sum(axis=0)
    return losses


class _Problem:
    """Weighted cross-entropy + strength / 2 * |weight|^2 on standardised embeddings.

    Standardisation and axes are folded into weights and biases afterwards. The weights of the
    cases sum to 1 for each label.
    """

    def __init__(
        self, x: FloatArray, labels: FloatArray, cases: FloatArray, offset: FloatArray | None = None
    ) -> None:
        self.mean, spread = x.mean(axis=0), x.std(axis=0)
        standard = (x - self.mean) / np.where(spread > 0, spread, 1.0)
        variance, axes = np.linalg.eigh(standard.T @ standard / len(x))
        self.to_axes = axes / np.where(spread > 0, spread, 1.0)[:, None]
        self.values = torch.from_numpy(standard @ axes).double()
        self.target = torch.from_numpy(labels).double()
        self.cases = torch.from_numpy(cases)
        self.offset = torch.from_numpy(np.zeros(labels.shape) if offset is None else offset)
        often = (cases * labels).sum(axis=0) * len(x)
        share = (often + 1) / (len(x) + 2)  # a fold may hold no case with a label
        self.curvature = np.maximum(variance, 0)[:, None] * (share * (1 - share))
        self.weight = torch.zeros(x.shape[1], labels.shape[1], dtype=torch.float64)
        self.bias = torch.from_numpy(np.log(share / (1 - share))).double()

    def solve(self, strength: FloatArray) -> Regressions:
        """Find the minimum, starting from the last solution."""
        penalty = torch.from_numpy(strength)
        scale = torch.from_numpy(1 / np.sqrt(self.curvature + strength))
        inner, bias = (self.weight / scale).requires_grad_(), self.bias.clone().requires_grad_()
        solver = torch.optim.LBFGS(
            [inner, bias], max_iter=STEPS, tolerance_grad=1e-5, tolerance_change=1e-10,
            history_size=20, line_search_fn="strong_wolfe",
        )  # fmt: skip

        def loss() -> torch.Tensor:
            solver.zero_grad()
            weight = inner * scale
            fit = F.binary_cross_entropy_with_logits(
                self.offset + self.values @ weight + bias,
                self.target,
                weight=self.cases,
                reduction="sum",
            )
            total = fit + (penalty * weight.square()).sum() / 2
            total.backward()
            return total

        solver.step(loss)
        self.weight, self.bias = (inner * scale).detach(), bias.detach()
        weight: FloatArray = (self.to_axes @ self.weight.numpy()).T
        return Regressions(weight, self.bias.numpy() - weight @ self.mean, strength)
