"""Write the gallery of sample scans: phantoms that no shipped model was trained or scored on.

    python scripts/make_samples.py

Seeds were chosen by what they show, not by how well a model reports them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

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
    Sample(50_003, "in", "Pre-employment check", "Unenhanced, 2.4 mm slices. No complaints."),
    Sample(50_011, "in", "Fever and cough", "Unenhanced, 2.4 mm slices. Ill for five days."),
    Sample(50_018, "in", "Long-term smoker", "Unenhanced, 2.4 mm slices. Weight loss."),
    Sample(50_021, "in", "Cancer follow-up", "Unenhanced, 2.4 mm slices. Between treatments."),
    Sample(50_023, "in", "Breathless at rest", "Unenhanced, 2.4 mm slices. Seen on the ward."),
    Sample(51_002, "out", "Sudden chest pain",
           "CT angiogram with thick slices: unlike the scans the models learned from."),
)  # fmt: skip


def main() -> None:
    """Write every sample and its JSON."""
    SAMPLES_DIR.mkdir(parents=True, exist_ok=True)
    for sample in SAMPLES:
        case = make_case(sample.seed, sample.domain)
        write_case(case, SAMPLES_DIR)
        path = SAMPLES_DIR / f"{case.id}.json"
        values = json.loads(path.read_text())
        values |= {"title": sample.title, "description": sample.description}
        path.write_text(json.dumps(values, indent=2) + "\n")
        print(f"{path.stem}: {sample.title}")


if __name__ == "__main__":
    main()
