"""The parts of ``rad3d convert`` that make folders which transformers can load."""

from __future__ import annotations

import argparse

from rad3d.commands import print_json, say
from rad3d.commands.demo import tell
from rad3d.core.errors import BadRequest
from rad3d.core.language_models import LANGUAGE_MODELS, LLMS_DIR, LOCAL, language_model
from rad3d.core.origin import origin
from rad3d.core.settings import Settings


def convert_gguf(args: argparse.Namespace) -> int:
    """Make a folder of a language model from a GGUF file."""
    if args.precision == "auto":
        raise BadRequest("--gguf stores float32 or bf16.", code="bad_option")
    from rad3d.model.llm.gguf import convert, find_source
    from rad3d.model.llm.precision import DTYPES

    models = Settings.from_env().models_dir / LLMS_DIR
    folder = convert(
        find_source(args.gguf), models, args.out,
        dtype=DTYPES[args.precision], replace=args.replace, progress=tell,
    )  # fmt: skip
    short = folder.name if folder.name in list(LANGUAGE_MODELS) else LOCAL + folder.name
    name = short if args.out is None else folder
    say(f"Written to {folder}. Train with: rad3d train --llm {name} --mode v3")
    print_json(origin(folder))
    return 0


def cut_words(args: argparse.Namespace) -> int:
    """Make a folder of a language model that keeps the words of some reports."""
    if not args.llm:
        raise BadRequest("--cut-vocabulary needs --llm.", code="bad_option")
    from rad3d.data.predictions import Columns
    from rad3d.model.llm.cut_vocabulary import cut_vocabulary
    from rad3d.model.llm.hub import Hub, obtain
    from rad3d.model.llm.loading import load_language_model
    from rad3d.model.llm.models_folder import placed
    from rad3d.model.variants.variant import VariantConfig
    from rad3d.train.file_source import read_reports

    settings = Settings.from_env()
    row = placed(language_model(args.llm), settings.models_dir)
    short = f"{row.id.removeprefix(LOCAL)}-cut"
    out = args.out or settings.models_dir / LLMS_DIR / short
    if out.exists():
        raise BadRequest(f"{out} is there already.", "Remove it, or give --out DIR.")
    reports = read_reports(args.cut_vocabulary, Columns(reference=()), "train")
    hub = Hub.from_settings(settings)
    models, revision = settings.models_dir, row.revision
    folder = obtain(row.source, hub, models_dir=models, revision=revision, progress=tell)
    language = load_language_model(row.source, models_dir=models, revision=revision, hub=hub)
    # As they stand in training: after the prompt, and the findings as words before it.
    prompt = VariantConfig("", "v3", "").prompt
    texts = [f"{prompt} {sample.reference.strip()}" for sample in reports.samples]
    texts += [prompt, *(f"Summary: {sample.reference.strip()}" for sample in reports.samples)]
    before = language.vocabulary
    kept = cut_vocabulary(language, folder, texts, out, row.licence)
    say(f"Kept {kept:,} of {before:,} words. Written to {out}.")
    if args.out is None:
        say(f"Train with: rad3d train --llm {LOCAL}{short} --mode v3")
    print_json(origin(out))
    return 0


def install_encoder(args: argparse.Namespace) -> int:
    """Put the encoder of BERTScore in its place."""
    from rad3d.metrics.cases import Places
    from rad3d.metrics.install import install_bertscore

    places = Places(Settings.from_env().models_dir)
    folder = install_bertscore(args.bertscore, places, args.replace)
    say(f"Written to {folder}.")
    print_json(origin(folder))
    return 0
