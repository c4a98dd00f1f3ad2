"""The adaptation modes: what is trained, and what the language model is given. One row adds one.

Pickers, command-line choices and tests follow from the table. No torch here: classes are named as
``"module:attribute"``, for :func:`rad3d.core.lookup.resolve`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rad3d.core.words import joined

KNOWN = {
    "image": "the image embedding",
    "logits": "the diagnostic logits",
    "tokens": "visual tokens",
    "findings": "the classifier's findings with their places",
}
"""What a mode may read -> its name."""

TRAINED = {
    "projector": "the projector",
    "soft tokens": "soft tokens",
    "llm": "the language model",
    "lora": "low-rank adapters",
    "dora": "low-rank adapters of direction and a magnitude",
}
"""What a mode may train -> its name."""


@dataclass(frozen=True)
class Mode:
    """An adaptation mode: what is trained, and what the language model is given.

    Attributes:
        id: used in variant ids, such as ``phantom-m/v3``.
        name: shown to people; its first word is a short name.
        reads: what the prefix is made from, keys of :data:`KNOWN`.
        trains: what is trained, keys of :data:`TRAINED`.
        projector: a key of :data:`PROJECTORS`.
        summary: one sentence.
        words: True where the findings stand as words in front of the report.
        prefix_length: soft tokens; for each label where ``projector`` is ``"slots"``. The number
            of visual tokens is that of the features.
    """

    id: str
    name: str
    reads: tuple[str, ...]
    trains: tuple[str, ...]
    projector: str
    summary: str
    words: bool = False
    prefix_length: int = 10

    @property
    def trains_llm(self) -> bool:
        """True where the language model's own weights are trained as well."""
        return "llm" in self.trains

    @property
    def adapter(self) -> str:
        """``"lora"`` or ``"dora"`` where adapters of the language model are trained, or empty."""
        return next((part for part in self.trains if part in ("lora", "dora")), "")

    @property
    def uses_logits(self) -> bool:
        """True where the diagnostic logits join the image embedding."""
        return "logits" in self.reads

    @property
    def reads_prior(self) -> bool:
        """True where what the classifier says is read, as logits or as findings."""
        return self.uses_logits or "findings" in self.reads

    @property
    def is_published(self) -> bool:
        """True for the paper's own modes, whose projectors other code saves as well."""
        return self.id in ("v1", "v2", "v3", "linear")

    @property
    def explained(self) -> str:
        """What it knows and what it trains, in a line."""
        known = joined([KNOWN[part] for part in self.reads])
        trained = joined([TRAINED[part] for part in self.trains]) or "nothing"
        return f"Knows {known}; trains {trained}."


MODES: dict[str, Mode] = {
    mode.id: mode
    for mode in (
        Mode(
            "v1", "V-1 fine-tuned", ("image",), ("projector", "llm"), "transformer",
            "The language model is fine-tuned together with the projector; "
            "the prefix is made from the image embedding.",
        ),
        Mode(
            "v2", "V-2 frozen", ("image",), ("projector",), "transformer",
            "The language model stays frozen; the prefix is made from the image embedding.",
        ),
        Mode(
            "v3", "V-3 frozen + logits (RAD3D-Prefix)", ("image", "logits"), ("projector",),
            "transformer",
            "The language model stays frozen; the prefix is made from the image embedding "
            "and the diagnostic logits.",
        ),
        Mode(
            "linear", "Linear, frozen + logits", ("image", "logits"), ("projector",), "linear",
            "As V-3, but with one linear map as the projector.",
        ),
        Mode(
            "r2gengpt", "R2GenGPT, frozen", ("tokens",), ("projector",), "tokens",
            "The paper's baseline: one linear map of the encoder's visual tokens.",
            prefix_length=64,
        ),
        Mode(
            "lora", "LoRA + logits", ("image", "logits"), ("projector", "lora"), "transformer",
            "As V-3, with low-rank adapters in every layer of the language model.",
        ),
        Mode(
            "dora", "DoRA + logits", ("image", "logits"), ("projector", "dora"), "transformer",
            "As LoRA, with the magnitude of each weight trained apart from its direction.",
        ),
        Mode(
            "slots", "Slots, frozen", ("findings",), ("projector",), "slots",
            "Two soft tokens for each label, which start as the words for its finding.",
            prefix_length=2,
        ),
        Mode(
            "words", "Words, frozen", ("findings",), ("soft tokens",), "soft",
            "The findings stand as words in front of the report, after a few soft tokens.",
            words=True,
        ),
        Mode(
            "text", "Text, untrained", ("findings",), (), "soft",
            "The findings stand as words in front of the report, and nothing is trained.",
            words=True, prefix_length=0,
        ),
    )
}  # fmt: skip

PROJECTORS: dict[str, str] = {
    "transformer": "rad3d.model.variants.projector:TransformerProjector",
    "linear": "rad3d.model.variants.projector:LinearProjector",
    "tokens": "rad3d.model.variants.projector:TokenProjector",
    "slots": "rad3d.model.variants.word_projectors:SlotProjector",
    "soft": "rad3d.model.variants.word_projectors:SoftProjector",
}
