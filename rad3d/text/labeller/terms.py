"""The words that name each finding, and the surroundings in which they mean something else.

Each rule is tried on one lower-case sentence. The conventions of the 18 labels follow the CT-RATE
reports: any lymph node that is described counts as lymphadenopathy whatever its size, pneumonia
by itself is neither opacity nor consolidation, and bullae count as emphysema.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rad3d.labels import PULMONARY_EMBOLISM


@dataclass(frozen=True)
class Rule:
    """One way to name a finding.

    Attributes:
        label: the finding.
        hints: the sentence must contain one of these, which is quicker to see than the pattern.
        term: the wording.
        mask: wordings that only look like the term; blanked out before it is tried.
        needs: must occur in the sentence as well (tried on the masked sentence).
        unless: must not occur in the sentence.
        normal: the wording itself denies the finding ("the heart is not enlarged").
    """

    label: str
    hints: tuple[str, ...]
    term: re.Pattern[str]
    mask: re.Pattern[str] | None = None
    needs: re.Pattern[str] | None = None
    unless: re.Pattern[str] | None = None
    normal: bool = field(default=False)


def _re(*parts: str) -> re.Pattern[str]:
    return re.compile("|".join(parts))


_CORONARY = (
    r"coronar(?:y|ies)(?:\s+(?:arter\w+|vascular|vessels?|walls?|structures?|branches))*"
    r"|left anterior descending(?: (?:coronary )?arter\w+)?|left main(?: coronary)?(?: artery)?"
    r"|circumflex(?: (?:coronary )?arter\w+)?|right coronary(?: arter\w+)?|\blad\b|\blcx\b|\brca\b|\blmca\b"
    r"|\bcx\b"
)
_CALCIUM = (
    r"\bcalcif\w*|\batheroscl\w*|\batherom\w*|\bplaques?\b|\bcalcium\b|\barterioscl\w*|\bcalcinosis\b"
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
    r"|\bvascular|\bvessels?|\bcarotid|\bsubclavian|\bbrachiocephalic|\barch\b|\barcus"
)
_NOT_ARTERIAL = (
    r"\b(?:abdominal|infrarenal|suprarenal) aort\w*(?: wall)?|\biliac\b(?: arter\w+)?",
    r"\b(?:one|two|three|single|multi|triple|[123])[- ]?vessel\w*",
    r"\bpulmonary (?:arter\w+|trunk|conus|vessel\w*|vascular)",
    r"\b(?:fusiform|aneurysm\w*|dilat\w*|ectasia|diameters?|calibration)[^,;]{0,40}?"
    r"\b(?:aort\w*|arter\w*)",
)
_OTHER_ORGAN = (
    r"\b(?:thyroid\w*|adrenal\w*|surrenal\w*|liver|hepatic|kidney\w*|renal|spleen|splenic|pancrea\w*"
    r"|breasts?|gallbladder|vertebra\w*|bone|bones|ribs?|skin|subcutaneous|periton\w*|omentum|omental"
    r"|mesenter\w*|stomach|gastric|bladder|prostate|uter\w+|ovar\w+|scapula|sternum|sternal|muscle"
    r"|parotid|colon|bowel|spine|spinal|schmorl|axilla\w*|heart|cardiac|crus|lymph|thymus|thymic"
    r"|cervical|supraclavicular|corpus|node|nodes|isthmus|esophag\w*|segment \d+[ab]?|segment [ivx]+)\b"
)
_NOT_LUNG_NODULE = (
    r"\bhypodense(?:[ ,-]+\w+){0,2}?[ ,-]+nodul\w*|\bnodul\w*(?:[ ,]+\w+){0,2}?[ ,]+hypodense",
    r"\bpleural nodul\w*|\bnodul\w*(?: lesions?)?[^,;]{0,25} (?:in|of|on) the pleura\b",
)
_LUNG = (
    r"\b(?:lungs?|pulmonary|lingula\w*|intraparenchymal|subpleural|fissure|pleura\w* based|rul|rml"
    r"|rll|lul|lll|perifissural)\b"
)
_THICK = r"(?:thick\w*|prominen\w*)"

RULES: tuple[Rule, ...] = (
    Rule(
        "Medical material",
        ("cath", "port", "tube", "pace", "icd", "stent", "sutur", "sternot", "wire", "prosth"
         , "clip", "implant", "material", "screw", "hardware", "cannula", "electrode", "lead"
         , "coil", "filter", "plate", "drain", "foreign", "staple", "device", "metal", "fixat"
         , "defib", "line", "ett", "valve", "picc", "fixator", "loop recorder", "instrument"),
        _re(
            r"\bcatheters?\b|\bchemoport\w*|\bport-?a-?cath\w*|\bmediport\b|\bports?\b(?! of)"
            r"|\bport (?:chamber|reservoir)",
            r"\b(?:tracheo\w+|endotracheal|nasogastric|orogastric|ng|chest|thora\w+|feeding|drain\w*"
            r"|enteric|tracheal|gastro\w+|nasoenteric|intubation|pleural|dobhoff|peg)[ -]?"
            r"(?:drainage )?(?:tubes?|cannula\w*)",
            r"\bcannulas?\b|\bintubat\w+",
            r"\bpace-?makers?\b|\bpacing\b|\bpace (?:maker|electrode|lead)\w*|\bdefibrillators?\b"
            r"|\baicd\b|\bicd\b|\bcardiac device\w*|\bloop recorder",
            r"\belectrodes?\b|\bleads?\b(?= (?:in|terminat|end|tip|are|is|of|extend|proje|wire|course|with))"
            r"|\b(?:pacer|pacing|ventricular|atrial|icd) leads?\b",
            r"\bstents?\b|\bstenting\b|\bendograft\b|\bgraft stent\b",
            r"\bsutur\w+|\bsternotom\w+|\bcerclage\b|\b(?:sternal|metal\w*|median) wires?\b|\bwires\b",
            r"\bprosthe\w+|\b(?:artificial|mechanical|metal\w*) (?:heart |aortic |mitral )?valves?"
            r"|\bvalve replacement|\bvalve repair",
            r"\b(?:surgical|metal\w*|vascular|operation|hemostatic)\s+clips?\b|\bclips?\b",
            r"\b(?:breast|silicone|mammary|dental|cochlear|orthopedic|metal\w*|cement) implants?\b",
            r"\b(?:surgical|operati\w+|post-?op\w*|fixati\w+|metal\w*|fixator|stent|implant|medical"
            r"|osteosynthesis|foreign|graft|hyperdense|prosthe\w+|suture|clip|stabili\w+|closure"
            r"|embolization|cement|instrumentation|device|support|valve)\s+(?:\w+\s+)?materials?\b",
            r"\bmaterials? (?:of|for|belonging to|secondary to|due to)\b",
            r"\bscrews?\b|\bhardware\b|\b(?:metal\w*|fixation) (?:plates?|rods?)|\bfixators?\b"
            r"|\binstrumentation\b",
            r"\bfiltration filter|\b(?:ivc|caval|vena cava) filter|\b(?:embolization )?coils?\b",
            r"\bdrains?\b(?! (?:into|to))|\bforeign (?:body|bodies|object)|\bstaples?\b|\bstaple line",
            r"\bpicc\b|\bett\b|\b(?:central venous|subclavian|jugular|central|ij) (?:venous )?(?:lines?|access)\b",
            r"\bsupport devices?\b|\bmedical devices?\b|\bmetallic (?:densit\w+|object|artifact)\w*",
        ),
        mask=_re(r"\bperitoneal implants?|\btumou?r\w* implants?|\bmetasta\w+ implants?",
                 r"\bcontrast (?:material|agent|media)\w*|\bportal\b|\bport(?:o|a)\b|\bport of\b",
                 r"\bsutural\b"),
    ),
    Rule(
        "Coronary artery wall calcification",
        ("coron", "lad", "circumflex", "rca", "left main", "left anterior", "lcx"),
        _re(_CORONARY),
        mask=_re(*_NOT_VASCULAR_CALCIUM),
        needs=_re(_CALCIUM),
    ),
    Rule(
        "Coronary artery wall calcification",
        ("cardio",),
        _re(r"\bcoronar\w+ (?:athero\w+ )?(?:heart )?disease\b"),
        unless=_re(r"\bhistory\b"),
    ),
    Rule(
        "Arterial wall calcification",
        ("calci", "athero", "plaque", "arterioscl"),
        _re(_CALCIUM),
        mask=_re(_CORONARY, *_NOT_VASCULAR_CALCIUM, *_NOT_ARTERIAL),
        needs=_re(_ARTERIAL),
    ),
    Rule(
        "Cardiomegaly",
        ("cardiom", "heart", "cardiac", "cardioth", "ctr", "ventric"),
        _re(
            r"\bcardiomegal\w*",
            r"\b(?:heart|cardiac)(?: (?:size|sizes|dimensions?|silhouette|shadow|volume|chambers"
            r"|contours?|and|is|are|the|appears?|its))*\s+(?:(?:has|have|is|are|was|were|appears?"
            r"|been|to be|mildly|moderately|severely|markedly|slightly|significantly|minimally"
            r"|also|above|diffusely|globally|grossly)\s+)*(?:increased?|enlarge\w*|larger|big\b"
            r"|prominent|above normal|upper limit)",
            r"\benlarge(?:d|ment)(?: \w+){0,2} (?:heart|cardiac)\b|\benlargement of the (?:heart|cardiac)",
            r"\bincreased?(?: \w+){0,2} (?:heart|cardiac|cardiothoracic|cardio-thoracic|cardiothorax)\b",
            r"\bincreased?(?: in)?(?: the)? (?:size of the heart|heart size|cardiac size)",
            r"\b(?:cardio-?thora\w+|ctr)\b[^,;]{0,30}?\b(?:increas\w+|above|exceed\w*|greater|in favou?r)",
            r"\bincrease\w* in (?:favou?r of )?(?:the )?(?:ctr|cardio-?thora\w+)",
            r"\b(?:dilat\w+|enlarge\w+)(?: \w+){0,3} (?:heart chambers|cardiac chambers)"
            r"|\b(?:biventricular|four[- ]chamber|global cardiac) (?:dilat\w+|enlarge\w+)",
        ),
    ),
    Rule(
        "Cardiomegaly",
        ("heart", "cardiac", "cardioth"),
        _re(
            r"\b(?:heart|cardiac|cardiothoracic ratio)\b[^.;]{0,40}?\b(?:is|are|was|were|appears?|of"
            r"|within|has|have)\s+(?:\w+\s+){0,2}?(?:normal|natural|unremarkable|not enlarged)\b"
            r"|\bnormal (?:heart|cardiac) (?:size|silhouette|contour)",
        ),
        unless=_re(r"\bincreas|(?<!not )\benlarg|\bcardiomeg"),
        normal=True,
    ),
    Rule(
        "Pericardial effusion",
        ("pericard", "perikard"),
        _re(
            r"\bpericardi\w*(?:\s+(?:space|cavity|sac|recess\w*|leaves|area))?"
            r"(?:\W+(?!thickness|effusion|fluid|nodul|calcif|cyst|is\b|are\b|was\b|were\b)\w+){0,5}?"
            r"\W+(?:effusions?|fluid|hematoma|hemorrhage)\b",
            r"\bpericardi\w*\W+(?:(?:is|are|was|were)\s)?[^,;]{0,20}\beffusion",
            r"\b(?:effusions?|fluid|smear\w*)\b[^,;]{0,90}?\bpericard\w+",
            r"\bhemopericardium\b|\bpneumopericardium\b",
        ),
        mask=_re(r"\bpericardi\w+ (?:fat|recess cyst)\b",
                 r"\bthick\w*(?=\W+(?:(?:or|and|/)\W+)?effusion)"),
    ),
    Rule(
        "Pleural effusion",
        ("effus", "fluid", "hydro", "hemothor", "empyema", "chylothor", "haemothor", "collection"),
        _re(
            r"\bpleur\w*(?:\W+(?!effusion|fluid|thick|plaque|calcif|nodul|based|mass|is\b|are\b|was\b"
            r"|were\b|lesion|irregular)\w+){0,4}?\W+(?:effusions?|fluid|collections?)\b",
            r"\b(?:effusions?|fluid|collections?)\b[^,;]{0,90}?\b(?:in|between|within|into|of|to)\b"
            r"[^,;]{0,25}?\bpleur\w+",
            r"\b(?:hydro|hemo|haemo|chylo|hydropneumo|pyo|hemopneumo)thora\w+|\bempyema\b"
            r"|\bhydropnomothora\w+",
        ),
        mask=_re(
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
        ("effus",),
        _re(r"\beffusions?\b"),
        unless=_re(
            r"\bpericard|\bperikard|\bpericadi|\bpleur|\babdom|\bperiton|\bjoint|\bpelvi|\bsubdural"
            r"|\bperihepatic|\bperisplenic|\bperi\s?nephric|\bperirenal|\bknee|\bmediastin|\bmastoid"
            r"|\bfatty|\bkidney|\brenal|\bliver|\bsubcapsular|\bspleen"
        ),
    ),
    Rule(
        "Hiatal hernia",
        ("hiat", "hernia", "gastric"),
        _re(
            r"\bhiat\w*(?:\W+\w+){0,2}?\W+herni\w*|\bherni\w*\W+(?:\w+\W+){0,4}?hiat\w*",
            r"\b(?:sliding|slid\w+)(?:[ -]type)?(?:\W+\w+){0,3}?\W+herni\w*",
            r"\bparaesophageal herni\w*|\bintrathoracic stomach|\bgastric herni\w*",
            r"\bherni\w*\W+(?:of (?:the )?)?(?:stomach|gastric)|\bstomach\W+(?:\w+\W+){0,3}herniat\w*",
            r"\bhiatal (?:widening|enlargement)",
        ),
    ),
    Rule(
        "Lymphadenopathy",
        ("lymph", "lap", "adenopath", "node"),
        _re(r"\blymphadenopath\w*|\blymph (?:nodes?|glands?)\b|\blymphnodes?\b|\blaps?\b"
            r"|\badenopath\w*|\bnodal (?:enlarge\w*|disease|metast\w*|conglomer\w*|mass\w*)"
            r"|\b(?:mediastinal|hilar|axillary|paratracheal|subcarinal|prevascular|enlarged"
            r"|supraclavicular)(?: \w+)? nodes?\b"),
        mask=_re(r"\b(?:intra-?pulmonary|perifissural|intraparenchymal|subpleural)(?: \w+)? lymph "
                 r"(?:node|gland)s?(?:\s*-\s*nodule)?"),
    ),
    Rule(
        "Emphysema",
        ("emph", "bull", "bleb", "amph"),
        _re(r"\bemph?y?sem\w*|\bamphys\w*|\bbull(?:a|ae|as|ous|ey|oid)?\b|\bblebs?\b"),
        mask=_re(r"\b(?:subcutaneous|mediastinal|soft tissue|skin|chest wall|surgical|interstitial"
                 r"|periorbital)(?:[ /-]+\w+){0,2}[ /-]+emph?ys\w*",
                 r"\bemph?ys\w*[^,;]{0,40}\b(?:skin|subcutaneous|chest wall|soft tissue|thoracic wall"
                 r"|muscle)\w*"),
    ),
    Rule(
        "Atelectasis",
        ("atel", "collaps", "volume loss"),
        _re(r"\batele\w*"
            r"|\b(?:lung|lobar|lobe|segment\w*|partial\w*|complete\w*|total\w*|middle lobe|passive"
            r"|lower lobe|upper lobe|basal|basilar)\b[^,;]{0,20}?\bcollaps\w+"
            r"|\bcollaps\w+(?: \w+){0,3}? (?:lung|lobe)"),
        mask=_re(r"\bfibro[- ]?atel\w*(?:[- /]+(?=sequel|chang|dens|band|area))?"),
    ),
    Rule(
        "Lung nodule",
        ("nodul", "mass", "metast", "micronod", "granulom"),
        _re(r"\bnodules?\b|\bmicro-?nodules?\b|\bnodular (?:lesions?|opacit\w*|densit\w+(?! increas)|formations?"
            r"|appearances?|structures?|areas?|focus|foci|images?|metasta\w+)|\bpseudonodul\w*"
            r"|\bnodular\b(?= (?:\w+ )?(?:lesion|metast))"),
        mask=_re(r"\b(?:tree|bud)\w*[^,;]{0,20}nodul\w*",
                 r"\bcentri-?(?:acinar|lobular)\s+(?:\w+\s+)?(?:micro)?nodular\w*(?: densit\w*)?",
                 *_NOT_LUNG_NODULE),
        unless=_re(_OTHER_ORGAN),
    ),
    Rule(
        "Lung nodule",
        ("nodul",),
        _re(r"\bnodules?\b|\bmicro-?nodules?\b|\bnodular (?:lesions?|opacit\w*|densit\w+(?! increas)|formations?"
            r"|appearances?|structures?|metasta\w+)"),
        mask=_re(r"\b(?:thyroid|adrenal|breast|surrenal|gland|liver|spleen)\w*[^,;]{0,40}?\bnodul\w*",
                 r"\bnodul\w*[^,;]{0,60}?\b(?:thyroid|adrenal|surrenal|gland|liver|spleen|breast)\w*",
                 r"\bcentri-?(?:acinar|lobular)\s+(?:\w+\s+)?(?:micro)?nodular\w*(?: densit\w*)?",
                 *_NOT_LUNG_NODULE),
        needs=_re(_LUNG),
    ),
    Rule(
        "Lung nodule",
        ("metast",),
        _re(r"\b(?:lung|pulmonary) metasta\w+|\bmetasta\w+(?=[^,;.]{0,40}\b(?:lungs?|lobes?)\b)"),
        unless=_re(r"\b(?:liver|adrenal|kidney|breast|bone|vertebra\w*|mediastinal|pleural)\b"),
    ),
    Rule(
        "Lung opacity",
        ("ground", "opaci", "crazy", "ggo", "frosted", "infiltr", "densit"),
        _re(r"\bground[- ]?glass\w*|\bggos?\b|\bfrosted[- ]glass|\bcrazy[- ]?paving",
            r"\b(?:air-?space|parenchymal|lung|pulmonary|patchy|hazy|alveolar|multifocal|focal|bilateral"
            r"|basilar|linear|streaky|interstitial|reticular|airspace|confluent|peripheral|lower lobe"
            r"|upper lobe|middle lobe|lingular|perihilar|subpleural|diffuse)(?: \w+){0,2}?"
            r" opaci(?:ty|ties|fication|fications)\b",
            r"\bopaci(?:ty|ties|fication|fications)\b(?=[^;]{0,60}\b(?:lung|lobe|lingul|basal|base"
            r"|bases|parenchym|apex|perihilar))",
            r"\bopacities\b|\bopacity\b|\bopacification\b",
            r"\bhaz(?:e|y|iness)\b(?= (?:attenuation|density|increase|area))",
        ),
        mask=_re(r"\bground[- ]?glass(?: densit\w+)? (?:\w+ )?nodul\w*"
                 r"|\bopaci\w+ (?:of|with) (?:contrast|vessel|vascular)\w*"
                 r"|\b(?:nodular|rounded|micronodular|band\w*|reticulonodular)(?: \w+)? opaci\w+"),
        unless=_re(r"\b(?:kidney|renal|sinus\w*|mastoid|maxillary)\b"),
    ),
    Rule(
        "Lung opacity",
        ("densit",),
        _re(
            r"\b(?:linear |nodular |alveolar |acinar |dep[ae]nd[ae]nt |diffuse |nonspecific )?"
            r"densit(?:y|ies) (?:area )?increas\w*|\bincreas\w* in (?:\w+ )?density",
            r"\bincreased (?:\w+ )?density|\b(?:alveolar|acinar|linear|dep[ae]nd[ae]nt) densit(?:y|ies)",
        ),
        mask=_re(
            r"\b(?:pleuro-?\s?parenchymal|pleural parenchymal|sequel\w*|fibrotic|reticul\w*|low"
            r"|peribronch\w*)\b[^,;]{0,45}?densit\w*(?: increas\w*)?",
            r"\bincreas\w* in (?:pleuro|sequel|reticul|fibro)\w*(?: \w+){0,2} densit\w*",
            r"\bdensit\w*(?: increas\w*)?[^;]{0,80}?\b(?:pleuroparenchymal|consolidation)\b",
            r"(?<!linear )\bdensit\w*(?: area)?(?: increas\w*)?[^;]{0,80}?\b(?:sequel\w*|atelectasis)\b",
            r"\bincreas\w* (?:in )?densit\w*[^;]{0,80}?\b(?:sequel\w*|atelectasis)\b",
        ),
        needs=_re(r"\b(?:lungs?|lobes?|lingula\w*)\b"),
        unless=_re(r"\b(?:liver|bones?|ribs?|fat|fatty|breasts?|muscle|skin|subcutaneous|suture|mediastin\w*"
                   r"|vertebra\w*|kidneys?|pleural thick\w*)\b"),
    ),
    Rule(
        "Pulmonary fibrotic sequela",
        ("sequel", "fibro", "scar", "cicatr", "pleuro", "band"),
        _re(r"\bsequel\w*|\bfibro-?atele[ck]t\w*|\bfibros[ei]s\b|\bfibrotic\w*|\bfibrous\b|\bfibroic\b"
            r"|\bscar(?:s|ring|red)?\b|\bcicatri\w*|\bfibro[- ]?atel\w*"
            r"|\bpleuro-?parenchymal (?:band\w*|density|densities|linear|retraction\w*|recession\w*)"
            r"|\b(?:parenchymal|fibrotic|subpleural) bands?\b"),
        mask=_re(r"\bfibrous tumou?r|\bfibrous dysplas\w*|\bcystic fibrosis\b"),
        unless=_re(r"\b(?:fractures?|kidneys?|renal|perirenal|ribs?|liver|spleen|splenic|vertebra\w*"
                   r"|breast|mastectom\w*|hepatic|pancrea\w*|skin|abdominal|bone|muscle|clavicle"
                   r"|adrenal|mesenter\w*|thyroid\w*|scapula|pericholecyst\w*|sacroiliac|nephr\w*)\b"),
    ),
    *(
        Rule(
            label,
            ("clear",),
            _re(r"\blungs? (?:(?:are|is|appears?|remain|bilaterally|fields?) )*clear\b|\bclear lungs\b"
                r"|^lungs?: clear\b"),
            normal=True,
        )
        for label in ("Lung opacity", "Consolidation")
    ),
    Rule(
        "Mosaic attenuation pattern",
        ("mosaic",),
        _re(r"\bmosaic\w*"),
    ),
    Rule(
        "Peribronchial thickening",
        ("bronch",),
        _re(r"\bperi-?bronch\w*(?:[ -]+(?!is\b|are\b|was\b|were\b|lymph|consolid)\w+){0,5}?[ -]+"
            + _THICK,
            r"\bperi-?bronch\w*(?: and \w+)?(?: wall)? (?:cuff\w*|thickness|increase)",
            r"\bthick\w*[^,;]{0,30}?\b(?:peri-?bronch\w*)",
            r"\bbronch(?:ial|us|i|iolar)(?:[ -]+(?:wall|walls|and|peribronchial|bronchiolar|mucosal"
            r"|structures?|tree))*[ -]+(?:(?:is|are|was|were|show|shows|have|has|been|diffusely|mildly"
            r"|minimal|mild|slightly|moderately|severely|markedly|are|appear)\s+)*(?:thick(?!ness)\w*|cuffing|prominence)",
            r"\bthick(?!ness)\w*(?: of| in)?(?: the)?(?: \w+){0,3}? bronch(?:ial|us|i)\b(?: walls?)?",
            r"\bbronch(?:ial|us) wall\w*[^,;]{0,20}?\bthick(?!ness)\w*"),
        mask=_re(r"\b(?:main|lobar|segment|intermediate) bronch\w+(?= (?:are|is) (?:open|patent))",
                 r"\bbronchopneumon\w*"),
    ),
    Rule(
        "Consolidation",
        ("consol",),
        _re(r"\bconsolid\w*|\bconsolut\w*|\bairspace disease\b"),
        mask=_re(r"\bground[- ]?glass(?:[- ]like)? consolid\w*"),
    ),
    Rule(
        "Bronchiectasis",
        ("bronchi", "bronchoect"),
        _re(r"\bbronchi-?e[ck]t\w*|\bbronchoectas\w*|\bbronchie\w*ta\w*",
            r"\b(?:dilat\w+|ectatic|ectasia)(?: (?:of|in|the|and|lower|upper|lobe|segmental|peripheral"
            r"|central|subsegmental))* bronch(?:i|us|ial)\b(?! (?:tree )?(?:is|are) (?:open|normal))",
            r"\bbronch(?:i|us|ial)(?: \w+){0,2} (?:(?:are|is|was|were|show\w*|mildly|minimally|slightly"
            r"|diffusely|cystically)\s+)*(?:dilat\w+|ectas\w+|ectatic)"),
    ),
    Rule(
        "Interlobular septal thickening",
        ("sept", "kerley", "crazy"),
        _re(r"\binter-?lob\w+(?:[ -]+(?!fissure|atelec)\w+){0,3}?[ -]+(?:sept\w*|interstit\w*)(?= (?:and \w+ )?"
            r"(?:\w+ ){0,3}?(?:thick|prominen|clarif|increase|line))",
            r"\binter-?lob\w+ (?:(?!fissure)\w+ ){0,3}?thick\w*",
            r"\b(?:prominen\w*|thick\w*)[^,;]{0,50}?\binter-?lob\w+ sept\w*",
            r"\bsept(?:al|a|um)\b(?: \w+){0,2} (?:thick\w*|prominen\w*|lines)",
            r"\bthick\w*(?: of)?(?: (?:the|newly|emerged|inter|in))*"
            r" (?:inter-?lob\w+|interlobular) sept\w*|\bthick\w*(?: \w+){0,3} sept(?:a|al|um)\b",
            r"\bkerley\b|\binterseptal thick\w*"),
        mask=_re(r"\bpara-?sept\w*|\bnasal sept\w*|\binter(?:ventricular|atrial) sept\w*"
                 r"|\bintraventricular sept\w*"),
    ),
    Rule(
        PULMONARY_EMBOLISM,
        ("embol", "thromb", "filling defect"),
        _re(r"\bpulmonary (?:thrombo-?)?embol\w*|\bemboli(?:sm|c|)?\b|\bembolus\b"
            r"|\bfilling defects?\b(?=[^;]{0,80}\b(?:pulmon\w+|lobar|segmental|arter\w+))"
            r"|\b(?:pulmonary arter\w+|segmental arter\w+|lobar arter\w+)[^,;]{0,60}\b(?:thromb\w+"
            r"|filling defects?)|\bthromb\w+[^,;]{0,40}\bpulmonary arter\w+"),
        unless=_re(r"\bcould not be evaluated\b"),
    ),
)
