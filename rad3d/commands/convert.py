"""Convert a published checkpoint to safetensors with hashes.

CHECKPOINT is CT_LiPro_v2.pt (CT-CLIP's image encoder with its 18-label head) or CT-CLIP_v2.pt (the
encoder alone) from the gated dataset CT-RATE on the Hugging Face Hub. It is opened without running
any code in it. Only the tensors that image inference reads are kept; the others are named on
stderr, and an unknown one is refused. What was written is printed as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rad3d.commands import print_json, say
from rad3d.errors import BadRequest
from rad3d.registry import ENCODERS
from rad3d.settings import Settings

EXAMPLE = """
rad3d convert CT_LiPro_v2.pt
rad3d convert CT_LiPro_v2.pt --out my-models/encoders/ct-clip
rad3d convert CT_LiPro_v2.pt --clip after --precision bf16
"""

SIZES = ("frames", "image_size", "patch_size", "channels")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``rad3d convert``."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help=".pt or .safetensors")
    parser.add_argument(
        "--out", metavar="DIR", type=Path,
        help="where the encoder is written (default: where the app looks for it)",
    )  # fmt: skip
    parser.add_argument(
        "--clip", choices=("before", "after"), default="before",
        help="clip HU before resampling, as the published inference and LiPro training, or after "
        "it, as the training of CT-CLIP (default: before)",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("float32", "bf16"), default="float32",
        help="what the CT-ViT's linear maps run in; bf16 is faster where the processor has it and "
        "changes some codes (default: float32)",
    )  # fmt: skip
    parser.add_argument(
        "--config", metavar="JSON", type=Path,
        help=f"sizes that the tensors do not tell, for other models than the published: "
        f"{', '.join(SIZES)}",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open, sort, write, print."""
    from rad3d.model.ctclip.checkpoint import file_sha256, open_checkpoint, save_network
    from rad3d.model.ctclip.checkpoint import sort_checkpoint as sort
    from rad3d.model.ctclip.encoder import ENCODER_ID
    from rad3d.model.head import CALIBRATE, FIT

    known = _json(args.config) if args.config else {}
    if not isinstance(known, dict) or set(known) - set(SIZES):
        raise BadRequest(f"--config may hold {', '.join(SIZES)}.", code="bad_config")
    out = args.out or Settings.from_env().models_dir / ENCODERS[ENCODER_ID].source
    state = open_checkpoint(args.checkpoint)
    known = {k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}
    checkpoint = sort(state, **known)
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
    facts = {
        "encoder": ENCODER_ID,
        "class": "rad3d.model.ctclip.network:CtClip",
        "grid": checkpoint.config.grid(args.clip).to_dict(),
        "precision": args.precision,
        "source": {"file": args.checkpoint.name, "sha256": file_sha256(args.checkpoint)},
        "licence": ENCODERS[ENCODER_ID].licence,
    }
    written = save_network(out, checkpoint, facts)
    say(f"Written to {out}.")
    print_json({k: written[k] for k in ("encoder", "elements", "sha256", "source", "network")})
    return 0


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
