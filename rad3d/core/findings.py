"""The vocabulary of findings that phantoms, reports and the labeller share.

A :class:`Finding` is one abnormality with its attributes. :data:`SCHEMA` says which attributes
each label may carry; a phantom draws them, the grammar states them, the labeller reads them back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rad3d.core.errors import BadRequest, UnknownName
from rad3d.core.labels import FINDING_NAMES, LABELS, PULMONARY_EMBOLISM

SIDES: tuple[str, ...] = ("left", "right", "bilateral")
SEVERITIES: tuple[str, ...] = ("mild", "moderate", "severe")
LOBES: tuple[str, ...] = (
    "right upper lobe",
    "right middle lobe",
    "right lower lobe",
    "left upper lobe",
    "left lower lobe",
)


@dataclass(frozen=True)
class Attributes:
    """Which attributes a label may carry; an empty tuple or None means 'never stated'.

    ``size_mm`` is the (smallest, largest) size that a phantom draws, ``count`` likewise.
    ``sites`` are anatomical places (lobes for lung findings), ``kinds`` are sub-types.
    """

    sides: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    max_sites: int = 1
    kinds: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    size_mm: tuple[int, int] | None = None
    count: tuple[int, int] | None = None


SCHEMA: dict[str, Attributes] = {
    "Medical material": Attributes(
        sides=("left", "right"),
        kinds=("pacemaker", "port catheter", "sternal wires", "nasogastric tube", "chest tube"),
    ),
    "Arterial wall calcification": Attributes(
        sites=("aortic arch", "ascending aorta", "descending aorta"),
        max_sites=2,
        severities=SEVERITIES,
    ),
    "Cardiomegaly": Attributes(severities=SEVERITIES),
    "Pericardial effusion": Attributes(severities=SEVERITIES, size_mm=(6, 30)),
    "Coronary artery wall calcification": Attributes(
        sites=(
            "left anterior descending artery",
            "circumflex artery",
            "right coronary artery",
        ),
        max_sites=3,
        severities=SEVERITIES,
    ),
    "Hiatal hernia": Attributes(severities=SEVERITIES, size_mm=(25, 80)),
    "Lymphadenopathy": Attributes(
        sides=SIDES,
        sites=("paratracheal", "subcarinal", "hilar", "aortopulmonary", "axillary"),
        max_sites=2,
        size_mm=(11, 30),
        count=(1, 6),
    ),
    "Emphysema": Attributes(
        sides=("bilateral",), kinds=("centrilobular", "paraseptal"), severities=SEVERITIES
    ),
    "Atelectasis": Attributes(
        sides=SIDES, sites=LOBES, max_sites=2, kinds=("linear", "lobar"), severities=SEVERITIES
    ),
    "Lung nodule": Attributes(
        sides=SIDES,
        sites=LOBES,
        max_sites=3,
        kinds=("solid", "calcified", "ground-glass"),
        size_mm=(5, 30),
        count=(1, 6),
    ),
    "Lung opacity": Attributes(sides=SIDES, sites=LOBES, max_sites=3, severities=SEVERITIES),
    "Pulmonary fibrotic sequela": Attributes(
        sides=SIDES, sites=("apical", *LOBES), max_sites=2, severities=SEVERITIES
    ),
    "Pleural effusion": Attributes(sides=SIDES, severities=SEVERITIES, size_mm=(8, 80)),
    "Mosaic attenuation pattern": Attributes(sides=("bilateral",), severities=SEVERITIES),
    "Peribronchial thickening": Attributes(
        sides=SIDES, sites=("central", "lower lobe"), severities=SEVERITIES
    ),
    "Consolidation": Attributes(
        sides=SIDES, sites=LOBES, max_sites=2, severities=SEVERITIES, size_mm=(20, 90)
    ),
    "Bronchiectasis": Attributes(
        sides=SIDES,
        sites=LOBES,
        max_sites=2,
        kinds=("cylindrical", "cystic"),
        severities=SEVERITIES,
    ),
    "Interlobular septal thickening": Attributes(
        sides=SIDES, sites=("upper lobe", "lower lobe"), max_sites=2, severities=SEVERITIES
    ),
    PULMONARY_EMBOLISM: Attributes(
        sides=SIDES, sites=("main", "lobar", "segmental"), severities=SEVERITIES
    ),
}


ORGANS: dict[str, tuple[str, ...]] = {
    "Heart and vessels": (
        "Cardiomegaly",
        "Pericardial effusion",
        "Coronary artery wall calcification",
        "Arterial wall calcification",
        PULMONARY_EMBOLISM,
    ),
    "Lungs and airways": (
        "Emphysema",
        "Atelectasis",
        "Lung nodule",
        "Lung opacity",
        "Pulmonary fibrotic sequela",
        "Mosaic attenuation pattern",
        "Peribronchial thickening",
        "Consolidation",
        "Bronchiectasis",
        "Interlobular septal thickening",
    ),
    "Pleura": ("Pleural effusion",),
    "Mediastinum": ("Lymphadenopathy", "Hiatal hernia"),
    "Devices": ("Medical material",),
}
"""The part of the chest -> its findings, in the order in which a table shows them."""


@dataclass(frozen=True)
class Finding:
    """One abnormality that is present, with the attributes a report can state.

    Attributes:
        label: a name of :data:`FINDING_NAMES`.
        side: ``"left"``, ``"right"``, ``"bilateral"`` or None where the label has no side.
            Always the patient's side.
        sites: places from the label's schema, in the schema's order.
        kind: sub-type from the label's schema.
        severity: ``"mild"``, ``"moderate"``, ``"severe"`` (extent, for diffuse findings).
        size_mm: largest diameter, thickness (effusions) or short axis (lymph nodes), in mm.
        count: number of lesions.
    """

    label: str
    side: str | None = None
    sites: tuple[str, ...] = ()
    kind: str | None = None
    severity: str | None = None
    size_mm: int | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        schema = SCHEMA.get(self.label)
        if schema is None:
            raise UnknownName("finding", self.label, FINDING_NAMES)
        checks = (
            ("side", self.side, schema.sides),
            ("kind", self.kind, schema.kinds),
            ("severity", self.severity, schema.severities),
            *(("site", site, schema.sites) for site in self.sites),
        )
        for name, value, allowed in checks:
            if value is not None and value not in allowed:
                raise BadRequest(f"{self.label} cannot have {name} {value!r}.", code="bad_finding")
        if len(self.sites) > max(schema.max_sites, 0) or len(set(self.sites)) != len(self.sites):
            raise BadRequest(f"{self.label} has too many or repeated sites.", code="bad_finding")

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain JSON values, empty attributes left out."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if v}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Finding:
        """The inverse of :meth:`to_dict`."""
        return cls(**{**values, "sites": tuple(values.get("sites", ()))})


@dataclass(frozen=True)
class Truth:
    """The truth of one phantom: its findings (at most one per label), domain and seed.

    ``seed`` alone fixes anatomy, lesions, acquisition and report.
    """

    seed: int
    domain: str
    findings: tuple[Finding, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.domain not in DOMAINS:
            raise UnknownName("domain", self.domain, DOMAINS)
        names = [finding.label for finding in self.findings]
        if len(set(names)) != len(names):
            raise BadRequest("A phantom holds at most one finding of each label.", code="bad_truth")

    def labels(self) -> tuple[int, ...]:
        """The 18 labels as 0 or 1, in published order."""
        present = {finding.label for finding in self.findings}
        return tuple(int(name in present) for name in LABELS)

    def get(self, label: str) -> Finding | None:
        """The finding of that label, or None where it is absent."""
        return next((f for f in self.findings if f.label == label), None)


DOMAINS: tuple[str, ...] = ("in", "out")

MIDLINE_DEVICES = ("sternal wires", "nasogastric tube")
SIDED_NODES = frozenset(("hilar", "axillary"))
"""Places of lymph nodes that have a side; the others lie in the midline."""


def has_side(label: str, kind: str | None, sites: tuple[str, ...]) -> bool:
    """Whether a finding of this kind in these places lies on a side at all."""
    if label == "Lymphadenopathy" and not SIDED_NODES & set(sites):
        return False
    return bool(SCHEMA[label].sides) and kind not in MIDLINE_DEVICES


def side_of_sites(sites: tuple[str, ...]) -> str | None:
    """The side that a tuple of lobes lies on: left, right, bilateral, or None without lobes."""
    sides = {site.split()[0] for site in sites if site in LOBES}
    if not sides:
        return None
    return "bilateral" if len(sides) == 2 else sides.pop()
