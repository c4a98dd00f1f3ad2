"""Write the gallery of sample scans: phantoms that no shipped model was trained or scored on.

    python scripts/make_samples.py

With ``--example``, only the report that the app shows at first, by the shipped models: after each
training of theirs.

Seeds were chosen by what they show, not by how well a model reports them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace

from rad3d.api import Reporter
from rad3d.core.settings import Settings
from rad3d.reports.export import report_json
from rad3d.service.gallery import SAMPLES_DIR
from rad3d.synthetic.phantom.cohort import make_case, write_case


@dataclass(frozen=True)
class Sample:
    """A phantom and what the gallery says about it, which gives no finding away."""

    seed: int
    domain: str
    title: str
    description: str


SAMPLES = (
    Sample(50_003, "in", "Pre-employment check",
           "No complaints. Try: does any model invent a finding?"),
    Sample(50_011, "in", "Fever and cough",
           "Ill for five days. Try Phantom S, then L: what does size change?"),
    Sample(50_018, "in", "Long-term smoker",
           "Weight loss. Try: what does the report leave out (∅ in the chart)?"),
    Sample(50_021, "in", "Cancer follow-up",
           "Between treatments. Try V-1, then V-3: which follows the bars?"),
    Sample(50_023, "in", "Breathless at rest",
           "Seen on the ward. Try: point at underlined words of the report."),
    Sample(51_002, "out", "Sudden chest pain",
           "Thick angiogram, unlike the training scans. Try: how is that told?"),
)  # fmt: skip

EXAMPLE = "in-050023"


def write_example() -> None:
    """Write the report of the default variant on one sample, without the times it took here."""
    report = Reporter(Settings().default_variant)(SAMPLES_DIR / f"{EXAMPLE}.nii.gz")
    stored = replace(report, timings_s={}, provenance={**report.provenance, "stored": True})
    path = SAMPLES_DIR / f"{EXAMPLE}.report.json"
    path.write_text(report_json(stored), encoding="utf-8")
    print(f"{path.name}: {report.variant_id}")


def main() -> None:
    """Write every sample and its JSON, or the report of one."""
    if "--example" in sys.argv[1:]:
        write_example()
        return
    SAMPLES_DIR.mkdir(parents=True, exist_ok=True)
    for sample in SAMPLES:
        case = make_case(sample.seed, sample.domain)
        write_case(case, SAMPLES_DIR)
        path = SAMPLES_DIR / f"{case.id}.json"
        values = json.loads(path.read_text())
        values |= {"title": sample.title, "description": sample.description}
        path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path.stem}: {sample.title}")


if __name__ == "__main__":
    main()
