"""Projector and language model joined by a prefix, in memory: what is trained and what writes.

The sequence is ``<bos>`` + prefix + findings as words, in some modes + prompt + report + ``<eos>``;
only the report is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from rad3d.core.errors import BadRequest, CorruptWeights
from rad3d.core.findings import Finding
from rad3d.model.llm.cross_entropy import cross_entropy_in_pieces, in_pieces, is_plain_head
from rad3d.model.llm.hub import Hub
from rad3d.model.llm.language import LanguageBundle
from rad3d.model.llm.loading import load_language_model
from rad3d.model.variants.adapters import (
    ADAPTER_DIR,
    adapter_parameters,
    add_adapter,
    load_adapter,
    save_adapter,
    with_own_modules,
)
from rad3d.model.variants.projector import InputScaling, new_projector
from rad3d.model.variants.publish import locate
from rad3d.model.variants.variant import (
    CONFIG_FILE,
    LLM_DIR,
    PROJECTOR_FILE,
    VariantConfig,
    restore_advice,
    verify_files,
    write_variant,
)
from rad3d.synthetic.grammar import write_summary

IGNORED = -100
"""Label of positions that are not predicted."""

SAMPLED_WORDS = 4096
"""Embeddings from which the scale of a language model's words is taken."""


class PrefixReporter(nn.Module):
    """Projector and language model; the projector's dtype is float32, whatever the LLM's.

    Args:
        config: the variant.
        language: its language model, used in place: frozen here, unless the mode trains it.

    Attributes:
        plain_head: whether the output layer alone makes the scores; None until that is asked.
    """

    def __init__(self, config: VariantConfig, language: LanguageBundle) -> None:
        super().__init__()
        self.config = config
        row = config.mode_row
        self.scaling = InputScaling(
            config.image_dim, config.logits_dim, config.latent_weight, config.logits_weight
        )
        self.projector: Any = new_projector(config, language)
        self.llm: Any = language.model
        self.language = language
        self.plain_head: bool | None = None
        if row.trains_llm:
            self.llm.requires_grad_(True)
        else:
            language.freeze()
        if row.adapter:
            add_adapter(language.model, row.adapter, config.adapter_rank)
        bos = [language.bos_id] if config.bos_first and language.bos_id is not None else []
        self.register_buffer("_bos", torch.tensor([bos], dtype=torch.long), persistent=False)
        prompt = language.tokens(config.prompt) if config.prompt else []
        self.register_buffer("_prompt", torch.tensor([prompt], dtype=torch.long), persistent=False)
        self.register_buffer("_word_rms", _word_rms(config, language), persistent=False)
        if self._bos.device != language.device:  # the language model stays as it was loaded
            for own in (self.scaling, self.projector):
                own.to(language.device)
            self._bos = self._bos.to(language.device)
            self._prompt = self._prompt.to(language.device)

    _bos: Tensor
    _prompt: Tensor
    _word_rms: Tensor

    def train(self, mode: bool = True) -> PrefixReporter:
        """Set the mode as in torch, but keep a frozen language model in eval mode (no dropout)."""
        super().train(mode)
        if not self.config.mode_row.trains_llm:
            self.llm.eval()
        return self

    @property
    def conditioning_length(self) -> int:
        """Positions before the report, without findings as words: start token, prefix, prompt."""
        return self._bos.shape[1] + int(self.projector.prefix_length) + self._prompt.shape[1]

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The projector's, and the language model's or its adapters' where the mode trains them."""
        yield from self.projector.parameters()
        if self.config.mode_row.trains_llm:
            yield from self.llm.parameters()
        elif self.config.mode_row.adapter:
            yield from adapter_parameters(self.llm)

    def prefix(
        self,
        latent: Tensor,
        logits: Tensor | None = None,
        tokens: Tensor | None = None,
        bits: Tensor | None = None,
    ) -> Tensor:
        """The prefix, (B, P, H) in the projector's dtype; what the mode does not read is ignored.

        Args:
            latent: (B, 512).
            logits: (B, L).
            tokens: (B, N, C) visual tokens.
            bits: (B, L + A) of findings.
        """
        if self.projector.reads == "condition":
            given = self.scaling(
                latent.to(self._bos.device), None if logits is None else logits.to(self._bos.device)
            )
        else:
            read = tokens if self.projector.reads == "tokens" else bits
            if read is None:
                raise BadRequest(f"{self.config.id} is not given what it makes its prefix from.")
            given = read.to(self._bos.device)
        prefix: Tensor = self.projector(given.to(next(self.projector.parameters()).dtype))
        if self.config.prefix_scale == "words":
            prefix = F.rms_norm(prefix, prefix.shape[-1:]) * self._word_rms.to(prefix.dtype)
        return prefix

    def conditioning(self, prefix: Tensor, context: Sequence[int] | None = None) -> Tensor:
        """(B, P, H) prefix -> (B, bos + P + context, H), in the language model's dtype.

        Args:
            prefix: soft tokens.
            context: token ids between prefix and report; the prompt by default.
        """
        b = prefix.shape[0]
        after = self._prompt if context is None else torch.tensor([context], dtype=torch.long)
        parts = [prefix.to(self.language.dtype)]
        if self._bos.shape[1]:
            parts.insert(0, self.language.embed(self._bos).expand(b, -1, -1))
        if after.shape[1]:
            parts.append(self.language.embed(after).expand(b, -1, -1))
        return torch.cat(parts, dim=1)

    def context(self, findings: Sequence[Finding]) -> list[int]:
        """Token ids between prefix and report: findings as words in some modes, and the prompt."""
        words = self.language.tokens(f"Summary: {write_summary(findings)}")
        return [*(words if self.config.mode_row.words else []), *self._prompt[0].tolist()]

    def report_ids(self, text: str) -> list[int]:
        """Token ids of a report as it follows the prompt, with the end token."""
        return self.language.report_tokens(self.config.prompt, text)

    def collate(
        self, reports: Sequence[Sequence[int]], contexts: Sequence[Sequence[int]] = ()
    ) -> tuple[Tensor, Tensor]:
        """Ragged report ids -> ``input_ids`` and ``labels``, (B, T), padded on the right.

        Args:
            reports: of a batch.
            contexts: what stands before each, in modes with findings as words; not predicted.
        """
        before = [len(ids) for ids in contexts] or [0] * len(reports)
        if contexts:
            reports = [[*c, *ids] for c, ids in zip(contexts, reports, strict=True)]
        longest = max(len(ids) for ids in reports)
        room = self.language.context - self.conditioning_length
        if longest > room:
            raise BadRequest(
                f"A report of {longest} tokens does not fit: {self.config.llm} has room for {room}."
            )
        pad = self.language.pad_id
        rows = [[*ids, *[pad] * (longest - len(ids))] for ids in reports]
        targets = [
            [*[IGNORED] * n, *ids[n:], *[IGNORED] * (longest - len(ids))]
            for n, ids in zip(before, reports, strict=True)
        ]
        return torch.tensor(rows), torch.tensor(targets)

    def forward(self, **batch: Tensor | None) -> Tensor:
        """The loss; as ``forward`` so that wrappers for distributed training see it."""
        return self.loss(**batch)  # type: ignore[arg-type]

    def loss(
        self,
        latent: Tensor,
        logits: Tensor | None,
        input_ids: Tensor,
        labels: Tensor,
        tokens: Tensor | None = None,
        bits: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Mean next-token cross-entropy over the report tokens.

        Args:
            latent, logits, tokens, bits: see :meth:`prefix`.
            input_ids: (B, T) report tokens with the end token, padded on the right; in modes with
                findings as words each row begins with them and the prompt.
            labels: (B, T) the same with -100 where nothing is to be predicted.
            weights: (B, T) how much each token counts; all alike by default.

        No attention mask is needed: with padding on the right, causal attention keeps every real
        token from seeing a padded one, and without a mask the fused causal kernels are used.
        """
        head = self.conditioning(
            self.prefix(latent, logits, tokens, bits), [] if self.config.mode_row.words else None
        )
        embeds = torch.cat((head, self.language.embed(input_ids[:, :-1]).to(head.dtype)), dim=1)
        # The last conditioning position predicts the first report token, and so on.
        kept = input_ids.shape[1]
        if self._is_in_pieces(labels):
            shares = (labels != IGNORED).float() if weights is None else weights
            states = self.llm.base_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
            return cross_entropy_in_pieces(
                states[:, -kept:].flatten(0, 1),
                self.llm.get_output_embeddings(),
                labels.to(states.device).flatten(),
                (shares / shares.sum()).to(states.device).flatten(),
            )
        output = self.llm(inputs_embeds=embeds, use_cache=False, logits_to_keep=kept).logits
        output = output[:, -kept:]  # some families keep all the same
        losses = F.cross_entropy(
            output.flatten(0, 1).float(),
            labels.to(output.device).flatten(),
            ignore_index=IGNORED,
            reduction="mean" if weights is None else "none",
        )
        if weights is None:
            return losses
        share = weights.to(losses.device).flatten()
        return (losses * share).sum() / share.sum()

    def _is_in_pieces(self, labels: Tensor) -> bool:
        """True where the scores of a batch are many, and made by the output layer alone."""
        if not in_pieces(labels.numel(), self.language.vocabulary):
            return False
        if self.plain_head is None:
            self.plain_head = is_plain_head(self.llm)
        return self.plain_head

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        dtype: torch.dtype = torch.float16,
        training: Mapping[str, Any] | None = None,
    ) -> VariantConfig:
        """Write ``variant.json``, ``projector.safetensors`` and, where trained, the rest.

        That is ``llm/`` for V-1, and ``adapter/`` in the form of peft for LoRA and DoRA.

        Args:
            save_directory: created if need be.
            dtype: of the stored projector and of a V-1's language model.
            training: replaces that of the configuration.

        Returns:
            The configuration as written, with the files' hashes.
        """
        directory = Path(save_directory)
        directory.mkdir(parents=True, exist_ok=True)
        config = self.config
        if training is not None:
            config = replace(config, training=dict(training))
        (directory / CONFIG_FILE).unlink(missing_ok=True)  # no variant while it is half written
        trains = config.mode_row.trains_llm
        others = self._save_llm(directory / LLM_DIR, dtype) if trains else []
        if config.mode_row.adapter:
            base = "" if Path(config.llm_source).is_absolute() else config.llm_source
            others = save_adapter(self.llm, directory / ADAPTER_DIR, base, dtype)
        return write_variant(directory, config, self.projector, self.scaling, dtype, others)

    def _save_llm(self, directory: Path, dtype: torch.dtype) -> list[Path]:
        converted: dict[int, Tensor] = {}  # tied weights must stay one tensor to be stored once
        state = {
            k: converted.setdefault(v.data_ptr(), v.to(dtype))
            for k, v in self.language.model.state_dict().items()
        }
        kept = self.language.model.config.dtype
        self.language.model.config.dtype = dtype
        try:
            self.language.model.save_pretrained(directory, state_dict=state, max_shard_size="9MB")
        finally:
            self.language.model.config.dtype = kept
        self.language.tokenizer.save_pretrained(directory)
        return sorted(directory.glob("*.safetensors"))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        models_dir: Path | None = None,
        language: LanguageBundle | None = None,
        revision: str | None = None,
        token: str | None = None,
        precision: str = "float32",
        device: str = "cpu",
        hub: Hub | None = None,
        reason: str = "",
    ) -> PrefixReporter:
        """Load a variant from its directory or from the hub, strictly, ready for inference.

        Args:
            pretrained_model_name_or_path: directory or hub id.
            models_dir: where a frozen shipped language model is looked for.
            language: the frozen language model if it is loaded already; ignored by V-1.
            revision, token: for the hub.
            precision, device: of the language model.
            hub: where it and its frozen language model are fetched from.
            reason: why this precision and device; kept with the language model.

        Raises:
            MissingWeights: a file is absent.
            CorruptWeights: a file does not match its recorded hash; the message names it.
        """
        directory = locate(pretrained_model_name_or_path, hub or Hub(), revision, token)
        config = VariantConfig.read(directory)
        verify_files(directory, config)
        if config.mode_row.trains_llm:
            bundle = load_language_model(
                str(directory / LLM_DIR), precision=precision, device=device, reason=reason
            )
        else:
            bundle = language or load_language_model(
                config.llm_source,
                models_dir=models_dir,
                revision=config.llm_revision,
                precision=precision,
                device=device,
                sha256=config.llm_sha256,
                hub=hub,
                reason=reason,
            )
            _same_weights(config, bundle)
        reporter = cls(config, with_own_modules(bundle) if config.mode_row.adapter else bundle)
        reporter._load(directory)
        return reporter.requires_grad_(False).eval()

    def _load(self, directory: Path) -> None:
        """Put the weights of a variant's own files into projector, scaling and adapters."""
        file = PROJECTOR_FILE
        try:
            tensors = load_file(directory / file)
            scaling = {k.removeprefix("scaling."): v for k, v in tensors.items() if "scaling." in k}
            weights = {k: v.float() for k, v in tensors.items() if "scaling." not in k}
            self.scaling.load_state_dict(scaling, strict=True)
            self.projector.load_state_dict(weights, strict=True)
            if self.config.mode_row.adapter:
                file = ADAPTER_DIR
                load_adapter(self.llm, directory / ADAPTER_DIR)
        except (SafetensorError, RuntimeError) as error:
            raise CorruptWeights(
                f"{self.config.id}/{file} does not fit its configuration.",
                restore_advice(self.config),
                code="corrupt_weights",
            ) from error


def _word_rms(config: VariantConfig, language: LanguageBundle) -> Tensor:
    """The root mean square of the embeddings of the first words, where the prefix is scaled."""
    if config.prefix_scale != "words":
        return torch.ones(())
    ids = torch.arange(min(language.vocabulary, SAMPLED_WORDS))
    return language.embed(ids).detach().float().square().mean().sqrt()


def _same_weights(config: VariantConfig, bundle: LanguageBundle) -> None:
    if config.llm_sha256 and bundle.sha256 and config.llm_sha256 != bundle.sha256:
        raise CorruptWeights(
            f"{config.id} was trained on other weights of {config.llm_source} than these.",
            restore_advice(config),
            code="corrupt_weights",
        )
