"""Words for findings of the heart, vessels, mediastinum and pleura, and for devices."""

from __future__ import annotations

from rad3d.core.labels import PULMONARY_EMBOLISM
from rad3d.reports.labeller.rules import Rule, any_of

_CORONARY = (
    r"coronar(?:y|ies)(?:\s+(?:arter\w+|vascular|vessels?|walls?|structures?|branches))*"
    r"|left anterior descending(?: (?:coronary )?arter\w+)?|left main(?: coronary)?(?: artery)?"
    r"|circumflex(?: (?:coronary )?arter\w+)?|right coronary(?: arter\w+)?|\blad\b|\blcx\b"
    r"|\brca\b|\blmca\b"
    r"|\bcx\b"
)
_CALCIUM = (
    r"\bcalcif\w*|\bcalc\b|\batheroscl\w*|\bathero(?:m\w*)?\b|\bplaques?\b|\bcalcium\b"
    r"|\barterioscl\w*|\bcalcinosis\b"
)
_NOT_VASCULAR_CALCIUM = (
    r"\b(?:pleural|pericardial|diaphragmatic|tracheal|bronchial|valv\w+|annul\w+|mitral)"
    r"(?:\s+\w+){0,2}\s+(?:calcif\w*|plaques?)",
    r"\bcalcif\w*(?:\s+(?!in\b|of\b|and\b|are\b|is\b|on\b)[\w-]+){0,3}?\s+(?:lymph|node|nodul\w*"
    r"|granulom\w*|pleural|valve|lesions?|mass|focus of the|ligament|hilar|lap\b|parenchym\w*)",
    r"\b(?:nodul\w*|nodes?|granuloma\w*|adenopath\w*)\b[^,;]{0,40}?\bcalcif\w*",
    r"\b(?:aortic|mitral|tricuspid|pulmonic) (?:valve|annul\w+|cusps?)(?:[^,;]{0,30}calcif\w*)?",
    r"\baort\w*[- ]?pulmon\w+|\bpara-?aortic|\binteraort\w*|\bpre-?aortic|\bpara-?caval",
)
_ARTERIAL = (
    r"\b(?:thoracic |ascending |descending )?aort\w*|\bsupra-?aortic\w*|\barter(?:y|ies|ial)\b"
    r"|\bvascular|\bvessels?|\bcarotid|\bsubclavian|\bbrachiocephalic|\barch\b|\barcus|\bao\b"
)
_NOT_ARTERIAL = (
    r"\b(?:abdominal|infrarenal|suprarenal) aort\w*(?: wall)?|\biliac\b(?: arter\w+)?",
    r"\b(?:one|two|three|single|multi|triple|[123])[- ]?vessel\w*",
    r"\bpulmonary (?:arter\w+|trunk|conus|vessel\w*|vascular)",
    r"\b(?:fusiform|aneurysm\w*|dilat\w*|ectasia|diameters?|calibration)[^,;]{0,40}?"
    r"\b(?:aort\w*|arter\w*)",
)
_NORMAL_NODES = (
    r"\b(?:lymph nodes?|(?:mediastinal|hilar|axillary) nodes?|lns?)(?: \w+){0,3}?(?: (?:is|are"
    r"|was|were|appears?"
    r"|remain)(?: (?:present|seen"
    r"|visible|all|to be|and|but))*|,? (?:all )?of|,|:)? (?:not (?:\w+ly )?enlarged"
    r"|unremarkable|wnl"
    r"|within normal|(?:of )?normal(?:[- ]sized?| limits| in size| dimension\w*| and|(?=\W*$)))\b"
    r"|\b(?:lymph nodes?|lns?)(?: \w+)? (?:is|are|appears?)(?: to be)? normal\b"
    r"|\b(?:normal[- ]sized?|non-?enlarged)(?: \w+){0,3} (?:lymph nodes?|lns?)\b"
)
_PLEURAL_FLUID = (
    r"\bpleur\w*(?:\W+(?!effusion|fluid|thick|plaque|calcif|nodul|based|mass|is\b|are\b"
    r"|was\b"
    r"|were\b|lesion|irregular)\w+){0,4}?\W+(?:effusions?|fluid|collections?)\b",
    r"\b(?:effusions?|fluid|collections?)\b[^,;]{0,90}?\b(?:in|between|within|into|of"
    r"|to)\b"
    r"[^,;]{0,25}?\b(?:pleur\w+|hemithora\w+|fissures?)\b",
    r"\b(?:hydro|hemo|haemo|chylo|hydropneumo|pyo|hemopneumo)thora\w+|\bempyema\b"
    r"|\bhydropnomothora\w+",
)

CHEST_RULES: tuple[Rule, ...] = (
    Rule(
        "Medical material",
        (
            "cath",
            "port",
            "tube",
            "pace",
            "ppm",
            "icd",
            "stent",
            "sutur",
            "sternot",
            "wire",
            "prosth",
            "clip",
            "implant",
            "material",
            "screw",
            "hardware",
            "cannula",
            "electrode",
            "lead",
            "coil",
            "filter",
            "plate",
            "drain",
            "foreign",
            "staple",
            "device",
            "metal",
            "fixat",
            "defib",
            "line",
            "ett",
            "valve",
            "picc",
            "fixator",
            "loop recorder",
            "tav",
            "batter",
            "instrument",
            "tracheost",
            "cvc",
            "cerclage",
        ),
        any_of(
            r"\bcatheters?\b|\bchemoport\w*|\bport-?a-?cath\w*|\bmediport\b|\bports?\b(?! of)"
            r"|\bport (?:chamber|reservoir)",
            r"\b(?:tracheo\w+|endotracheal|nasogastric|orogastric|ng|chest|thora\w+|feeding"
            r"|drain\w*"
            r"|enteric|tracheal|gastro\w+|nasoenteric|intubation|pleural|dobhoff|peg)[ -]?"
            r"(?:drainage )?(?:tubes?|cannula\w*)",
            r"\bcvc\b|\bcannulas?\b|\bintubat\w+|\btracheostom\w+",
            r"\bpace-?makers?\b|\bpacers?\b|\bpacing\b|\bpace (?:maker|electrode|lead)\w*"
            r"|\bdefibrillators?\b"
            r"|\baicd\b|\bppm\b|\b(?:pacemaker|cardiac|heart) battery|\btav[ir]\b|\bicd\b"
            r"|\bcardiac device\w*|\bloop recorder",
            r"\belectrodes?\b|\bleads?\b(?= (?:in|terminat|end|tip|are|is|of|extend|proje|wire"
            r"|course|with))"
            r"|\b(?:pacer|pacing|ventricular|atrial|icd) leads?\b",
            r"\bstents?\b|\bstenting\b|\bendograft\b|\bgraft stent\b",
            r"\bsutur\w+|\bsternotom\w+|\bcerclages?\b|\b(?:sternal|metal\w*|median) wires?\b"
            r"|\bwires\b",
            r"\bprosthe\w+|\b(?:artificial|mechanical|metal\w*) (?:heart |aortic |mitral )?valves?"
            r"|\bvalve replacement|\bvalve repair",
            r"\b(?:surgical|metal\w*|vascular|operation|hemostatic)\s+clips?\b|\bclips?\b",
            r"\b(?:breast|silicone|mammary|dental|cochlear|orthopedic|metal\w*"
            r"|cement) implants?\b",
            r"\b(?:surgical|operati\w+|post-?op\w*|fixati\w+|metal\w*|fixator|stent|implant"
            r"|medical"
            r"|osteosynthesis|foreign|graft|hyperdense|prosthe\w+|suture|clip|stabili\w+|closure"
            r"|embolization|cement|instrumentation|device|support"
            r"|valve)\s+(?:\w+\s+)?materials?\b",
            r"\bmaterials? (?:of|for|belonging to|secondary to|due to)\b",
            r"\bscrews?\b|\bhardware\b|\b(?:metal\w*|fixation) (?:plates?|rods?)|\bfixators?\b"
            r"|\binstrumentation\b",
            r"\bfiltration filter|\b(?:ivc|caval|vena cava) filter|\b(?:embolization )?coils?\b",
            r"\bdrains?\b(?! (?:into|to))|\bforeign (?:body|bodies|object)|\bstaples?\b"
            r"|\bstaple line",
            r"\bpicc\b|\bett\b|\b(?:central venous|subclavian|jugular|central"
            r"|ij) (?:venous )?(?:lines?|access)\b",
            r"\bsupport devices?\b|\bmedical devices?\b|\bmetallic (?:densit\w+|object"
            r"|artifact)\w*",
        ),
        mask=any_of(
            r"\bperitoneal implants?|\btumou?r\w* implants?|\bmetasta\w+ implants?",
            r"\bcontrast (?:material|agent|media)\w*|\bportal\b|\bport(?:o|a)\b|\bport of\b",
            r"\bsutural\b",
        ),
    ),
    Rule(
        "Coronary artery wall calcification",
        ("coron", "lad", "circumflex", "rca", "left main", "left anterior", "lcx"),
        any_of(_CORONARY),
        mask=any_of(*_NOT_VASCULAR_CALCIUM),
        needs=any_of(_CALCIUM),
    ),
    Rule(
        "Coronary artery wall calcification",
        ("cardio", "coron", "cac", "cor "),
        any_of(r"\bcacs?\b|\bcor calc\w*|\bcoronar\w+ (?:athero\w+ )?(?:heart )?disease\b"),
        unless=any_of(r"\bhistory\b"),
    ),
    Rule(
        "Arterial wall calcification",
        ("calc", "athero", "plaque", "arterioscl"),
        any_of(_CALCIUM),
        mask=any_of(_CORONARY, *_NOT_VASCULAR_CALCIUM, *_NOT_ARTERIAL),
        needs=any_of(_ARTERIAL),
    ),
    Rule(
        "Cardiomegaly",
        ("cardiom", "heart", "cardiac", "cardioth", "ctr", "ventric"),
        any_of(
            r"\bcardiomeg(?:al\w*)?\b",
            r"\b(?:heart|cardiac)(?: (?:size|sizes|dimensions?|silhouette|shadow|volume|chambers"
            r"|contours?|and|is|are|the|appears?|its))*:?\s+(?:(?:has|have|is|are|was|were"
            r"|appears?"
            r"|been|to be|mildly|moderately|severely|markedly|slightly|significantly|minimally"
            r"|also|above|diffusely|globally|grossly)\s+)*(?:increased?|enl\b|enlarge\w*|larger"
            r"|big\b|prominent|above normal)",
            r"\benlarge(?:d|ment)(?: \w+){0,2} (?:heart|cardiac)\b|\benlargement of the (?:heart"
            r"|cardiac)",
            r"\bincreased?(?: \w+){0,2} (?:heart|cardiac|cardiothoracic|cardio-thoracic"
            r"|cardiothorax)\b",
            r"\bincreased?(?: in)?(?: the)? (?:size of the heart|heart size|cardiac size)",
            r"\b(?:cardio-?thora\w+|ctr)\b[^,;]{0,30}?\b(?:increas\w+|above|exceed\w*|greater"
            r"|in favou?r)",
            r"\bincrease\w* in (?:favou?r of )?(?:the )?(?:ctr|cardio-?thora\w+)",
            r"\b(?:dilat\w+|enlarge\w+)(?: \w+){0,3} (?:heart chambers|cardiac chambers)"
            r"|\b(?:biventricular|four[- ]chamber|global cardiac) (?:dilat\w+|enlarge\w+)",
        ),
    ),
    Rule(
        "Cardiomegaly",
        ("heart", "cardiac", "cardioth"),
        any_of(
            r"\b(?:heart|cardiac|cardiothoracic ratio)\b[^.;]{0,40}?\b(?:is|are|was|were|appears?"
            r"|of"
            r"|within|has|have)\s+(?:\w+\s+){0,2}?(?:normal|natural|unremarkable|not enlarged)\b"
            r"|\bnormal (?:heart|cardiac) (?:size|silhouette|contour)",
        ),
        unless=any_of(r"\bincreas|(?<!not )\benlarg|\bcardiomeg|\blarger|\babove"),
        normal=True,
    ),
    Rule(
        "Pericardial effusion",
        ("peric", "perikard"),
        any_of(
            r"\bpericardi\w*(?:\s+(?:space|cavity|sac|recess\w*|leaves|area))?"
            r"(?:\W+(?!thickness|effusion|fluid|nodul|calcif|cyst|is\b|are\b|was\b"
            r"|were\b)\w+){0,5}?"
            r"\W+(?:effusions?|fluid|hematoma|hemorrhage)\b",
            r"\bperic(?:ard)? eff(?:us|s)?\b|\bpericardial effs?\b",
            r"\bpericardi\w*\W+(?:(?:is|are|was|were)\s)?[^,;]{0,20}\beffusion",
            r"\b(?:effusions?|fluid|smear\w*)\b[^,;]{0,90}?\bpericard\w+",
            r"\bhemopericardium\b|\bpneumopericardium\b",
        ),
        mask=any_of(
            r"\bpericardi\w+ (?:fat|recess cyst)\b",
            r"\bthick\w*(?=\W+(?:(?:or|and|/)\W+)?effusion)",
        ),
    ),
    Rule(
        "Pleural effusion",
        ("effus", "fluid", "hydro", "hemothor", "empyema", "chylothor", "haemothor", "collection"),
        any_of(*_PLEURAL_FLUID),
        mask=any_of(
            r"\bthick\w*(?=\W+(?:(?:or|and|/)\W+)?effusion)",
            r"\b(?:abdom\w*|periton\w*|joint|pelvi\w*|subdural|perihepatic|perinephric|perisplenic"
            r"|perirenal|mediastinal|knee|intra-?abdominal|subcapsular)\b[^,;]{0,40}?"
            r"\b(?:effusions?|fluid)\b",
            r"\b(?:effusions?|fluid)\b[^,;]{0,30}?\b(?:abdom\w*|periton\w*|pelvi\w*|perihepatic"
            r"|perisplenic|perinephric|perirenal|fatty tissue)\w*",
        ),
    ),
    Rule(
        "Pleural effusion",
        ("eff",),
        any_of(r"\beff(?:usions?|us|s)?\b"),
        mask=any_of(*_PLEURAL_FLUID, r"\bthick\w*(?=\W+(?:(?:or|and|/)\W+)?effusion)"),
        unless=any_of(
            r"\bpericard|\bperic\b|\bperikard|\bpericadi|\babdom|\bperiton|\bjoint"
            r"|\bpelvi|\bsubdural"
            r"|\bperihepatic|\bperisplenic|\bperi\s?nephric|\bperirenal|\bknee|\bmediastin"
            r"|\bmastoid"
            r"|\bfatty|\bkidney|\brenal|\bliver|\bsubcapsular|\bspleen"
        ),
    ),
    Rule(
        "Hiatal hernia",
        ("hiat", "hernia", "gastric", "stomach", "hh"),
        any_of(
            r"\bhiat\w*(?:\W+\w+){0,2}?\W+herni\w*|\bherni\w*\W+(?:\w+\W+){0,4}?hiat\w*",
            r"\b(?:sliding|slid\w+)(?:[ -]type)?(?:\W+\w+){0,3}?\W+herni\w*",
            r"\bparaesophageal herni\w*|\bintrathoracic stomach|\bgastric herni\w*",
            r"\bherni\w*\W+(?:of (?:the )?)?(?:stomach|gastric)"
            r"|\bstomach\W+(?:\w+\W+){0,3}herniat\w*",
            r"\bhiatal (?:widening|enlargement)|\bhh\b",
        ),
    ),
    Rule(
        "Lymphadenopathy",
        ("lymph", "lap", "adenopath", "node", "ln"),
        any_of(
            r"\blymphadeno(?:path|megal)\w*|\blymph (?:nodes?|glands?)\b|\blymphnodes?\b"
            r"|\blns?\b|\blaps?\b"
            r"|\badenopath\w*|\bnodal (?:enlarge\w*|disease|metast\w*|conglomer\w*|mass\w*)"
            r"|\b(?:mediastinal|hilar|axillary|paratracheal|subcarinal|prevascular|enlarged"
            r"|supraclavicular)(?: \w+)? nodes?\b"
        ),
        mask=any_of(
            r"\b(?:intra-?pulmonary|perifissural|intraparenchymal|subpleural)(?: \w+)? lymph "
            r"(?:node|gland)s?(?:\s*-\s*nodule)?|" + _NORMAL_NODES
        ),
    ),
    Rule("Lymphadenopathy", ("node", "ln"), any_of(_NORMAL_NODES), normal=True),
    Rule(
        "Lymphadenopathy",
        ("lad",),
        any_of(r"\blad\b"),
        unless=any_of(
            _CALCIUM,
            r"\bcoron|\bstent|\barter|\blcx\b|\bcx\b|\brca\b|\bcircumflex|\bdescending"
            r"|\bbypass|\bgraft|\bvessel",
        ),
    ),
    Rule(
        PULMONARY_EMBOLISM,
        ("embol", "thromb", "filling defect"),
        any_of(
            r"\bpulmonary (?:thrombo-?)?embol\w*|\bemboli(?:sm|c|)?\b|\bembolus\b"
            r"|\bfilling defects?\b(?=[^;]{0,80}\b(?:pulmon\w+|lobar|segmental|arter\w+))"
            r"|\b(?:pulmonary arter\w+|segmental arter\w+|lobar arter\w+)[^,;]{0,60}\b(?:thromb\w+"
            r"|filling defects?)|\bthromb\w+[^,;]{0,40}\bpulmonary arter\w+"
        ),
        unless=any_of(r"\bcould not be evaluated\b"),
    ),
)
