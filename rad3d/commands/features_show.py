"""The work behind ``rad3d features show``."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict

from rad3d.commands import print_json
from rad3d.core.words import byte_text


def run(args: argparse.Namespace) -> int:
    """Open the store, read one table, print."""
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
    logits = "with 18 logits" if facts["logits"] else "without logits"
    print(f"features: {facts['dimensions']} numbers each, {logits}")
    named = ", ".join(f"{code} {n}" for code, n in codes.most_common())
    print(f"failures: {facts['failed']}{f' ({named})' if named else ''}")
    print(f"disk: {byte_text(store.nbytes())}")
    for key, n in store.facts.items():
        print(f"computed: {n} scans, {', '.join(f'{name} {value}' for name, value in key)}")
    return 0
