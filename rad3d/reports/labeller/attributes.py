"""Side, places, size, severity, number and sub-type as a clause states them."""

from __future__ import annotations

import re

from rad3d.core.findings import LOBES, SCHEMA, Attributes

_SPARED = (
    r"(?:(?:left|right)(?:-sided)?|[rl](?:[um]l|ll)|[rl])\b(?: (?:lungs?|sides?|upper|middle|lower"
    r"|lobes?|apex|base|hilum|axilla|hemithorax|pleural|space|cavity)\b)*"
)
_NOT_A_SIDE = re.compile(
    r"\b(?:(?:left|right)[ -](?:sided )?(?:anterior descending|atri\w+|ventric\w+|heart"
    r"|main coronary|coronary|circumflex|facing|aortic arch|main stem coronary)\b"
    r"|(?:left|right) and (?:left|right) (?:atri\w+|ventric\w+)|right away\b)"
    r"|\b(?:none|not|absent|but no|spar(?:es|ing)(?: of)?|without (?:any )?involvement of"
    rf"|except(?: for| in)?) (?:(?:seen|present|visible|in|on|at|the|of|an?) )*{_SPARED}"
    rf"|(?:(?<=left)|(?<=right)|(?<=sided)),?(?: and| but)? no {_SPARED}"
    rf"|\b(?:the )?{_SPARED}:? (?:(?:shows?|has) none"
    r"|(?:is|are|remains?|appears?) (?:free|unremarkable|unaffected|intact|without)"
    r"|(?:(?:is|are|remains?|appears?) )?(?:clear|normal|spared|none|negative))\b"
)
_RIGHT = re.compile(
    r"\bright\w*(?:[ -]sided)?\b|\br(?:ul|ml|ll)\b|\bmiddle lobes?\b(?! of the left)|\brt\b"
    r"|\br\b(?!/o)"
)
_LEFT = re.compile(r"\bleft\w*(?:[ -]sided)?\b|\bl(?:ul|ll)\b|\blingula\w*|\blt\b|\bl\b(?! ?\d)")
_BOTH = re.compile(
    r"\b(?:bilateral\w*|bilat\b|b/l\b|[rl] ?(?:[<>=]|greater than) ?[rl]\b"
    r"|both (?:lungs?|sides?|hemithora\w+|pleura\w*|upper|lower|lobes?|hil\w+|axill\w+|apic\w+"
    r"|apex|apices|bases?|basal|costophrenic|main|lower|perihilar)\b"
    r"|bi-?(?:basilar|basal|apical|lobar|hilar|basally|axillary)\b|(?:either|each) (?:side"
    r"|lung)\b"
    r"|(?:two|both) lungs\b|both\b(?= (?:\w+ ){0,2}(?:lung|lobe|side|hil|base|apic))"
    r"|on both\b|of both\b|in both\b)"
)
_PART = r"(?:upper|middle|lower)"
_ITEM = rf"(?:(?:right and left|left and right|right|left|both|bilateral)\s+)?{_PART}"
_LOBE = re.compile(
    rf"\b{_ITEM}(?:(?:\s+lobes?)?(?:\s*(?:,|and|or|&|/|-|as well as)\s*)+(?:the\s+)?{_ITEM})*"
    r"\s+(?:lung\s+)?(?:lobes?|lobar)\b"
)
_LOBE_ITEM = re.compile(
    rf"(?:(right and left|left and right|right|left|both|bilateral)\s+)?\b({_PART})\b"
)
_LOBE_SHORT = {
    "rul": LOBES[0],
    "rml": LOBES[1],
    "rll": LOBES[2],
    "lul": LOBES[3],
    "lll": LOBES[4],
}
_SHORT = re.compile(r"\b(?:rul|rml|rll|lul|lll)\b|\blingula\w*")
_SIDE_BEFORE = re.compile(r"\b(left|right|bilateral\w*|both)\b")
_SIDE_AFTER = re.compile(
    r"\s*(?:of|in|on)?\s*(?:the\s+)?(?:both|(left|right)\b|bilateral\w*|two lungs)"
    r"(?=\s+lungs?\b|\s+side|\s*[,.;]|\s*$|\s+and\b|\s+hemithorax)|\s+bilaterally"
)

_NUMBER = r"\d+(?:[.,]\d+)?"
_SIZE = re.compile(
    rf"(?<![\w.,/-])({_NUMBER})((?:\s*(?:(?:mm|cm)\s*)?(?:x|\*|by)\s*{_NUMBER}){{0,4}})\s*-?"
    r"(mm|cm|millimet\w*|centimet\w*|milimet\w*)\b"
)
_NOT_SIZE_BEFORE = re.compile(
    r"(?:less than|smaller than|below|under|<|not exceed\w*|previously|formerly|from|was"
    r"|shorter than"
    r")\s*$"
)
_PRIOR_AFTER = re.compile(
    r"^[^,;)(]{0,12}?\b(?:in the previous|previously|on (?:the )?prior|before)\b"
)
_OTHER_MEASURE = re.compile(
    r"\b(?:slice|aorta|aortic (?!window|station)|trachea|pulmonary (?:trunk|artery|conus)\b)"
)

_SEVERITY = {
    "mild": r"mild\w*|minimal\w*|slight\w*|small|trace|tiny|minor|thin|subtle|discrete|faint|scant"
    r"|little|early|limited|smear\w*|low[- ]grade|sparse|few scattered",
    "moderate": r"moderate\w*|medium|intermediate|moderately",
    "severe": r"severe\w*|large|massive|marked\w*|extensive\w*|advanced|heav(?:y|ily)|gross\w*"
    r"|huge|pronounced|considerabl\w*|dense\w*|abundant",
}
_SEVERITIES = re.compile(
    rf"\b(?:{'|'.join(f'(?P<{name}>{words})' for name, words in _SEVERITY.items())})\b"
)

_COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_COUNT = re.compile(
    r"(?<![\d.,x] )(?<![\w.,-])(one|two|three|four|five|six|seven|eight|nine|ten|\d{1,2}|single"
    r"|solitary"
    r"|a|an|lone|pair of)\s+(?!mm|cm|milli|centi|x\b)(?:of the\s+)?"
    r"((?:(?!largest|biggest)[\w.-]+(?:,)?\s+){0,7}?)"
    r"(nodules?|(?:lymph )?nodes?|lymphadenopath\w+|lesions?|masse?s?)\b"
)

_BARE_SINGULAR = re.compile(r"\W*(?:(?!in\b|no\b|of\b)[\w-]+\s+){0,4}(?:nodule|lymph node)\b")

_SITES: dict[str, dict[str, str]] = {
    "Arterial wall calcification": {
        "aortic arch": r"\barch\b",
        "ascending aorta": r"\bascending",
        "descending aorta": r"\bdescending (?!(?:coronary )?arter)",
    },
    "Coronary artery wall calcification": {
        "left anterior descending artery": r"anterior descending|\blad\b",
        "circumflex artery": r"circumflex|\blcx\b|\bcx\b",
        "right coronary artery": r"right coronary|\brca\b",
    },
    "Lymphadenopathy": {
        "paratracheal": r"paratracheal",
        "subcarinal": r"subcarinal|infracarinal",
        "hilar": r"\b(?:bi-?|peri)?hil(?:ar|um|a|i|us)\b",
        "aortopulmonary": r"aort\w*[- ]?pulmon\w*|\bap window|\bsubaortic",
        "axillary": r"\baxill\w*",
    },
    "Pulmonary fibrotic sequela": {"apical": r"\b(?:bi-?)?api(?:cal|ces|x)\w*|\bapex|\bapexes"},
    "Peribronchial thickening": {
        "central": r"\bcentral\w*|\bperihilar|\bparahilar",
        "lower lobe": r"\blower (?:lung )?(?:lobe|zone)s?|\blower[- ]lobe|\bbas(?:al|es|ilar)",
    },
    "Interlobular septal thickening": {
        "upper lobe": r"\bupper (?:lung )?(?:lobe|zone)s?|\bupper[- ]lobe|\bapi(?:cal|ces)"
        r"|\bupper",
        "lower lobe": r"\blower (?:lung )?(?:lobe|zone)s?|\blower[- ]lobe|\bbas(?:al|es|ilar)"
        "|\blower",
    },
    "Pulmonary embolism": {
        "main": r"\bmain\b|\bcentral\b|\bsaddle\b",
        "lobar": r"\blobar\b",
        "segmental": r"\b(?:sub)?segment\w*",
    },
}
_SITE_PATTERNS = {
    label: {site: re.compile(words) for site, words in places.items()}
    for label, places in _SITES.items()
}
_KINDS: dict[str, str] = {
    "pacemaker": r"pace-?maker|pacing|cardiac device|\bicd\b|defibrillator",
    "port catheter": r"\bport\b|chemoport|mediport|\bport[- ]",
    "sternal wires": r"stern\w+ (?:\w+ )?(?:wire|cerclage|suture)\w*|sternotom|\bwires\b|cerclage",
    "nasogastric tube": r"nasogastric|\bng\b|enteric tube|gastric tube|feeding tube|orogastric",
    "chest tube": r"(?:chest|thora\w+|pleural|intercostal) (?:drain\w*|tube|cathet)\w*",
    "centrilobular": r"centri?-?(?:lobular|acinar)|centracinar",
    "paraseptal": r"para-?septal",
    "linear": r"linear|band|plate|discoid|subsegment\w*|streak\w*",
    "lobar": r"\blobar\b|lobe atelect|collaps\w*|complete|entire",
    "ground-glass": r"ground[- ]?glass|subsolid|non-?solid",
    "calcified": r"(?<!non)(?<!non-)\bcalcif\w*|\bcalcium",
    "solid": r"(?<!sub)(?<!non)(?<!non-)(?<!part-)(?<!sub-)\bsolid|soft[- ]tissue",
    "cylindrical": r"cylind\w*|tubular",
    "cystic": r"\bcystic|saccular|varicoid",
}
_KIND_PATTERNS = {kind: re.compile(words) for kind, words in _KINDS.items()}


def read_side(clause: str) -> str | None:
    """The patient's side a lower-case clause names: left, right, bilateral or None."""
    if _RIGHT.search(clause) or _LEFT.search(clause):
        clause = _NOT_A_SIDE.sub(" ", clause)
    if _BOTH.search(clause):
        return "bilateral"
    right, left = _RIGHT.search(clause), _LEFT.search(clause)
    if right and left:
        return "bilateral"
    if right:
        return "right"
    return "left" if left else None


def read_lobes(clause: str) -> tuple[str, ...]:
    """The lobes a lower-case clause names, in the order of ``LOBES``."""
    if "lob" not in clause and _SHORT.search(clause) is None:
        return ()
    clause = _NOT_A_SIDE.sub(lambda found: " " * len(found.group()), clause)
    found_lobes: set[str] = set()
    for found in _SHORT.finditer(clause):
        found_lobes.add(_LOBE_SHORT.get(found.group(), "left upper lobe"))
    for found in _LOBE.finditer(clause):
        found_lobes.update(_named_lobes(clause, found.start(), found.end()))
    return tuple(lobe for lobe in LOBES if lobe in found_lobes)


def _named_lobes(clause: str, start: int, end: int) -> list[str]:
    """The lobes of one list such as ``right upper and left lower lobes of ...``."""
    after = _SIDE_AFTER.match(clause, end)
    before = [found.group(1) for found in _SIDE_BEFORE.finditer(clause, 0, start)]
    side = (after.group(1) or "both") if after else (before[-1] if before else None)
    lobes: list[str] = []
    for own, part in _LOBE_ITEM.findall(clause[start:end]):
        side = own or side
        if side in ("left", "right"):
            lobes.append(f"{side} {part} lobe")
        elif side is not None:
            lobes += [f"left {part} lobe", f"right {part} lobe"]
        elif part == "middle":
            lobes.append("right middle lobe")
    return lobes


def read_sites(label: str, clause: str) -> tuple[str, ...]:
    """The places of that label's schema that a lower-case clause names, in schema order."""
    patterns = _SITE_PATTERNS.get(label, {})
    named = {site for site, pattern in patterns.items() if pattern.search(clause)}
    schema = SCHEMA.get(label, Attributes())
    if set(LOBES) & set(schema.sites):
        named.update(read_lobes(clause))
    return tuple(site for site in schema.sites if site in named)


def read_size_mm(label: str, clause: str) -> float | None:
    """The largest current size in a lower-case clause, in mm; of lymph nodes the short axis.

    Bounds ("less than 1 cm"), earlier sizes and slice or vessel measures are left out.
    """
    best: float | None = None
    for found in _SIZE.finditer(clause):
        before = clause[max(0, found.start() - 18) : found.start()]
        if _NOT_SIZE_BEFORE.search(before) or _PRIOR_AFTER.match(clause[found.end() :]):
            continue
        if _OTHER_MEASURE.search(clause[max(0, found.start() - 30) : found.start()]):
            continue
        factor = 10.0 if found.group(3).startswith("c") else 1.0
        numbers = re.findall(_NUMBER, found.group(1) + " " + found.group(2))
        values = [float(number.replace(",", ".")) * factor for number in numbers]
        size = min(values) if label == "Lymphadenopathy" else max(values)
        best = size if best is None else max(best, size)
    return None if best is None else round(best, 2)


def read_severity(clause: str, term: int) -> str | None:
    """The severity word nearest to the character ``term`` of a lower-case clause."""
    found = [
        (abs(match.start() - term), str(match.lastgroup)) for match in _SEVERITIES.finditer(clause)
    ]
    return min(found)[1] if found else None


def read_count(schema: Attributes, clause: str) -> int | None:
    """The number of lesions that a lower-case clause states, for labels that have a count."""
    if schema.count is None:
        return None
    match = _COUNT.search(clause)
    if match is None:
        return 1 if _BARE_SINGULAR.match(clause) else None
    word, noun = match.group(1), match.group(3)
    if word in ("a", "an", "single", "solitary", "lone"):
        plural = noun.endswith("s") and not noun.endswith("ss")
        return None if plural else 1
    if word == "pair of":
        return 2
    return int(word) if word.isdigit() else _COUNTS.index(word) + 1


def read_kind(schema: Attributes, clause: str) -> str | None:
    """The first sub-type of the schema that a lower-case clause names."""
    return next((kind for kind in schema.kinds if _KIND_PATTERNS[kind].search(clause)), None)
