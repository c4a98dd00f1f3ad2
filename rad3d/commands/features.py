"""Compute, import and look at the features that an encoder has of many scans.

A store of features is a folder: `compute` fills it from scans, on any number of machines at once,
and goes on where it was stopped; `import` fills it from features made elsewhere. Evaluation and
training take it in place of the scans.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rad3d.commands import Commands, add_command, add_label_set, features_compute, print_json
from rad3d.core.encoders import ENCODERS
from rad3d.core.words import byte_text

COMPUTE = """Encode every scan of a source into a store of features.

SOURCE is a folder of scans (.nii.gz, .nii, .zip, at any depth), a listing (.csv or .tsv with a
column VolumeName, path, scan or file; .txt with one path a line), or a data set as the evaluation
names it: ct-rate:DIR#train, inspect:DIR#train, folder:DIR.

A finished file is not read again, a scan that is known under another name is not encoded again.
What cannot be used, or does not look like a chest, is counted, and listed in failures.csv in the
store. Stopped at any moment, at most one shard is lost; the same command goes on. Several processes
share the work under `accelerate launch`, several machines by --part, and both may be changed
between runs.

Exit status: 0 finished, also where single scans failed; 1 where not one scan can be used; 2 for a
wrong command line; 130 stopped.
"""

COMPUTE_EXAMPLE = """
rad3d features compute scans --encoder phantom-cnn --out features
rad3d features compute ct-rate:CT-RATE#train --encoder ct-clip --out features --plan --processes 4
rad3d features compute names.csv --root CT-RATE --metadata train_metadata.csv --encoder ct-clip --out features
accelerate launch --multi_gpu --num_processes 4 -m rad3d features compute scans --encoder ct-clip --out features
rad3d features compute scans --encoder ct-clip --out features --part 3/16
"""  # noqa: E501

IMPORT = """Bring features that were made elsewhere into a store.

FILE is a .npz of many scans (an array of ids, one of embeddings, perhaps logits), or a .npz, .npy
or .pt of one scan, called after it and holding `arr` or one array, as the published scripts of
CT-CLIP write them; or a folder of such files. Whose features they are is what you say: the hash of
the weights is recorded as unknown, and only who names the store uses them. Files that cannot be
used are counted, and listed in failures.csv in the store.

Exit status: 0 imported, also where single files failed; 1 where nothing could be imported; 2 for a
wrong command line.
"""

IMPORT_EXAMPLE = """
rad3d features import latents/image --encoder ct-clip --out imported
rad3d features import train.npz --encoder ct-clip --logits logits.csv --out imported
"""

SHOW = """Say what a store of features holds: encoder, cases, failures by code, disk.
"""

SHOW_EXAMPLE = """
rad3d features show features
rad3d features show features --json
"""

EXAMPLE = COMPUTE_EXAMPLE + IMPORT_EXAMPLE.lstrip() + SHOW_EXAMPLE.lstrip()

SHARD_SIZE = 256


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of every part of ``rad3d features``."""
    parts = parser.add_subparsers(metavar="PART", required=True)
    _configure_compute(add_command(parts, "compute", COMPUTE, COMPUTE_EXAMPLE))
    _configure_import(add_command(parts, "import", IMPORT, IMPORT_EXAMPLE))
    _configure_show(parts)


def _configure_compute(compute: argparse.ArgumentParser) -> None:
    add = compute.add_argument
    add("source", metavar="SOURCE", help="a folder, a listing, or a data set")
    add("--encoder", required=True, choices=list(ENCODERS), help="whose features")
    add("--out", required=True, type=Path, metavar="DIR", help="the store")
    add("--root", type=Path, metavar="DIR", help="of the paths in a listing (default: its folder)")
    add("--metadata", type=Path, metavar="CSV",
        help="CT-RATE's metadata table: its spacing and orientation count, and its slope and "
        "intercept where the values are not in HU yet")  # fmt: skip
    add("--part", default="1/1", metavar="I/N", help="only this of N parts of the scans")
    add("--limit", type=int, default=0, metavar="N", help="only the first N scans")
    add("--tokens", action="store_true", help="keep up to 64 visual tokens of each scan as well, "
        "which the mode r2gengpt reads")  # fmt: skip
    add("--retry-failed", action="store_true", help="try scans again that failed before")
    add("--force", action="store_true", help="encode scans that do not look like a chest, too")
    add("--readers", type=int, default=1, metavar="N",
        help="threads that read ahead, where encoding is faster than reading; each takes the "
        "memory of a scan (default: %(default)s)")  # fmt: skip
    add("--shard-size", type=int, default=SHARD_SIZE, metavar="N",
        help="scans that are written at once (default: %(default)s)")  # fmt: skip
    add("--device", help="auto, cpu, cuda or cuda:1 (default: RAD3D_DEVICE or auto)")
    add("--plan", action="store_true", help="count, time a few scans, and write nothing")
    add("--processes", type=int, default=4, metavar="N", help="with --plan (default: %(default)s)")
    add("--json", action="store_true", help="the summary or plan as JSON")
    compute.set_defaults(run=features_compute.run)


def _configure_import(found: argparse.ArgumentParser) -> None:
    add = found.add_argument
    add("files", metavar="FILE", nargs="+", type=Path, help="files or folders of features")
    add("--encoder", required=True, choices=list(ENCODERS), help="whose they are, as you know")
    add("--out", required=True, type=Path, metavar="DIR", help="the store")
    add("--logits", type=Path, metavar="CSV",
        help="VolumeName or id, and the logits of the labels, each by its name")  # fmt: skip
    add_label_set(found)
    add("--json", action="store_true", help="the summary as JSON")
    found.set_defaults(run=features_compute.run_import)


def _configure_show(parts: Commands[argparse.ArgumentParser]) -> None:
    show = add_command(parts, "show", SHOW, SHOW_EXAMPLE)
    show.add_argument("store", metavar="DIR", type=Path, help="the store")
    show.add_argument("--json", action="store_true", help="JSON instead of text")
    show.set_defaults(run=run_show)


def run_show(args: argparse.Namespace) -> int:
    """Say what a store holds."""
    from rad3d.features.shards import FeatureStore

    store = FeatureStore.open(args.store)
    table = store.table()
    codes = Counter(why.code for why in store.failures.values())
    facts = {
        "encoder": asdict(store.identity),
        "cases": len(store),
        "scans": len({case.content for case in store.cases.values()}),
        "dimensions": table.embedding.shape[1],
        "logits": bool(store.cases) and table.logits is not None,
        "label_set": table.label_set.to_plain() if table.logits is not None else None,
        "failed": len(store.failures),
        "failed_by_code": dict(codes.most_common()),
        "bytes": store.nbytes(),
        "computed_with": [{**dict(key), "scans": n} for key, n in store.facts.items()],
    }
    if args.json:
        print_json(facts)
        return 0
    whose = store.identity
    weights = "weights not known: imported" if whose.is_imported else f"weights {whose.sha256}"
    print(f"encoder: {whose.id}, {weights}, grid {whose.preprocessing or 'not known'}")
    print(f"cases: {facts['cases']} of {facts['scans']} different scans")
    logits = f"with the logits of {table.label_set}" if facts["logits"] else "without logits"
    print(f"features: {facts['dimensions']} numbers each, {logits}")
    named = ", ".join(f"{code} {n}" for code, n in codes.most_common())
    print(f"failures: {facts['failed']}{f' ({named})' if named else ''}")
    print(f"disk: {byte_text(store.nbytes())}")
    for key, n in store.facts.items():
        if key:  # a single file does not say
            print(f"computed: {n} scans, {', '.join(f'{name} {value}' for name, value in key)}")
    return 0
