"""Projectors of findings that start at the language model's own words.

Their input are bits: which labels are present, and the attributes of each
(:func:`rad3d.core.details.finding_bits`). A frozen language model reads words; so a prefix that
begins as the embeddings of words is read at once, and training goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rad3d.core.details import attribute_names
from rad3d.core.labels import LabelSet
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.variants.variant import VariantConfig
from rad3d.synthetic.grammar.summary import NAMES, SHORT_SITES

OPENING = "Summary:"
EXAM = "Exam: chest CT\nIndication: cough, suspected pneumonia.\n"
"""The words that the soft tokens before a text start as."""


def prefix_positions(config: VariantConfig, language: LanguageBundle) -> int:
    """Positions that the prefix of a variant takes."""
    if config.projector != "slots":
        return config.prefix_length
    return len(language.tokens(OPENING)) + config.prefix_length * len(config.label_set)


class SlotProjector(nn.Module):
    """Bits of findings -> the words ``Summary:``, then some soft tokens for each label.

    One linear map. It starts as the embeddings of the words for each label and attribute, those of
    one token added up: the name and side in the first token of a label, the rest in the last.
    """

    reads = "bits"

    def __init__(self, dim_input: int, width: int, opening: int, slots: int) -> None:
        super().__init__()
        self.width, self.prefix_length = width, opening + slots
        self.opening = nn.Parameter(torch.zeros(opening, width))
        self.linear = nn.Linear(dim_input, slots * width)

    @classmethod
    def of(cls, config: VariantConfig, language: LanguageBundle) -> SlotProjector:
        """The projector of a variant, before it is trained."""
        each, labels = config.prefix_length, config.label_set
        opening = language.tokens(OPENING)
        dim = len(labels) + len(attribute_names(labels))
        found = cls(dim, language.width, len(opening), each * len(labels))
        start = torch.zeros(each * len(labels), language.width, dim)
        for slot, bit, words, share in _slot_words(each, labels):
            ids = language.tokens(f" {words}" if words != ";" else words)
            start[slot, :, bit] += share * language.embed(torch.tensor(ids)).sum(0).detach().cpu()
        with torch.no_grad():
            found.opening.copy_(language.embed(torch.tensor(opening)))
            found.linear.weight.copy_(start.flatten(0, 1))
            found.linear.bias.zero_()
        return found

    def forward(self, bits: Tensor) -> Tensor:
        """(B, L + A) -> (B, prefix_length, width)."""
        slots = self.linear(bits).view(len(bits), -1, self.width)
        return torch.cat((self.opening.expand(len(bits), -1, -1), slots), dim=1)


def _slot_words(each: int, labels: LabelSet) -> Iterator[tuple[int, int, str, float]]:
    """(slot, bit, words, share): what each bit adds to which slot; a label ends in a semicolon."""
    for i, label in enumerate(labels.labels):
        words = NAMES.get(label.rule, label.words or label.name.lower())
        if label.rule != "Medical material":  # a device is called by its kind
            yield each * i, i, words, 1.0
        yield each * i + each - 1, i, ";", 0.5
    for bit, (name, attribute) in enumerate(attribute_names(labels), start=len(labels)):
        if attribute == "large":
            continue
        words = "number 2" if attribute == "multiple" else SHORT_SITES.get(attribute, attribute)
        place = 0 if attribute in ("left", "right") else each - 1
        yield each * labels.index[name] + place, bit, words, 1.0


class SoftProjector(nn.Module):
    """Soft tokens that start as plain words, moved by a map of the findings that starts at zero."""

    reads = "bits"

    def __init__(self, dim_input: int, width: int, prefix_length: int) -> None:
        super().__init__()
        self.prefix_length = prefix_length
        self.constant = nn.Parameter(torch.zeros(prefix_length, width))
        self.map = nn.Parameter(torch.zeros(prefix_length, width, dim_input))

    @classmethod
    def of(cls, config: VariantConfig, language: LanguageBundle) -> SoftProjector:
        """The projector of a variant, before it is trained."""
        length = config.prefix_length
        ids = language.tokens(EXAM)
        ids = (ids * (length // len(ids) + 1))[:length]
        labels = config.label_set
        found = cls(len(labels) + len(attribute_names(labels)), language.width, length)
        with torch.no_grad():
            found.constant.copy_(language.embed(torch.tensor(ids, dtype=torch.long)))
        return found

    def forward(self, bits: Tensor) -> Tensor:
        """(B, L + A) -> (B, prefix_length, width)."""
        return self.constant + torch.einsum("bd,phd->bph", bits, self.map)
