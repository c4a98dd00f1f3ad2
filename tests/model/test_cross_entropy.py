"""Cross-entropy in pieces is the cross-entropy, with all its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, LATENT_DIM, OTHERS, tiny_language
from torch.nn import functional as F

from rad3d.model.llm import cross_entropy
from rad3d.model.llm.cross_entropy import cross_entropy_in_pieces, is_plain_head
from rad3d.model.variants.reporter import IGNORED, PrefixReporter
from rad3d.model.variants.variant import VariantConfig


@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradients_are_those_of_the_whole(
    bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "PIECE", 200)  # 6 rows of 31 words at a time
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 31, bias=bias)
    targets, shares = torch.randint(0, 31, (20,)), torch.rand(20)
    targets[4:7], shares[4:7] = IGNORED, 0.0
    got: list[Any] = []
    wanted: list[Any] = []
    for values, whole in ((got, False), (wanted, True)):
        head.zero_grad()
        states = torch.linspace(-1, 1, 160).reshape(20, 8).requires_grad_()
        if whole:
            each = F.cross_entropy(head(states), targets, ignore_index=IGNORED, reduction="none")
            loss = (each * shares).sum()
        else:
            loss = cross_entropy_in_pieces(states, head, targets, shares)
        (3 * loss).backward()
        values += [loss.detach(), states.grad, *(p.grad for p in head.parameters())]
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["v3", "v1"])
def test_a_variant_learns_the_same_in_pieces(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for piece in (2**25, 3000):
        monkeypatch.setattr(cross_entropy, "PIECE", piece)
        torch.manual_seed(1)
        config = VariantConfig(llm="tiny", mode=mode, llm_source="tiny", latent_dim=LATENT_DIM,
                               layers=1, prefix_length=4, clip_length=3, heads=4)  # fmt: skip
        reporter = PrefixReporter(config, tiny_language("gemma3_text")).train()
        ids, labels = reporter.collate([[5, 6, 7, 8, 2], [9, 10, 2]])
        batch = {"latent": torch.ones(2, LATENT_DIM), "logits": torch.ones(2, 18)}
        reporter(**batch, input_ids=ids, labels=labels).backward()
        trained = [p for p in reporter.parameters() if p.requires_grad]
        gradients.append(torch.cat([p.grad.flatten() for p in trained if p.grad is not None]))
        assert reporter.plain_head is (None if piece > 3000 else True)
    scale = gradients[0].norm()
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * scale


def test_families_that_change_their_scores_afterwards_are_told_apart() -> None:
    plain = {name: is_plain_head(tiny_language(name).model) for name in (*FAMILIES, *OTHERS)}
    assert not plain["gemma2"], "it caps its scores"
    assert all(plain[name] for name in FAMILIES)
    model = tiny_language("gpt2").model.train()
    assert is_plain_head(model)
    assert model.training, "and stays in training"
