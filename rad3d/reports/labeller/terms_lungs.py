"""Words for findings of the lungs and airways."""

from __future__ import annotations

from rad3d.reports.labeller.rules import Rule, any_of

_OTHER_ORGAN = (
    r"\b(?:thyroid\w*|adrenal\w*|surrenal\w*|liver|hepatic|kidney\w*|renal|spleen|splenic"
    r"|pancrea\w*"
    r"|breasts?|gallbladder|vertebra\w*|bone|bones|ribs?|skin|subcutaneous|periton\w*|omentum"
    r"|omental"
    r"|mesenter\w*|stomach|gastric|bladder|prostate|uter\w+|ovar\w+|scapula|sternum|sternal|muscle"
    r"|parotid|colon|bowel|spine|spinal|schmorl|axilla\w*|heart|cardiac|crus|lymph|thymus|thymic"
    r"|cervical|supraclavicular|corpus|node|nodes|isthmus|esophag\w*|segment \d+[ab]"
    r"|segment [ivx]+)\b"
)
_NOT_LUNG_NODULE = (
    r"\bhypodense(?:[ ,-]+\w+){0,2}?[ ,-]+nodul\w*|\bnodul\w*(?:[ ,]+\w+){0,2}?[ ,]+hypodense",
    r"\bpleural nodul\w*|\bnodul\w*(?: lesions?)?[^,;]{0,25} (?:in|of|on) the pleura\b",
)
_NOT_ASSESSED = (
    r"\bnodul\w*(?: lesions?)? (?:cannot|can not|could not) be (?:\w+ly )?(?:evaluated|assessed)\b"
)
_LUNG = (
    r"\b(?:lungs?|pulmonary|lingula\w*|intraparenchymal|subpleural|fissure|pleura\w* based|rul|rml"
    r"|rll|lul|lll|perifissural)\b"
)
_THICK = r"(?:thick\w*|prominen\w*)"

LUNG_RULES: tuple[Rule, ...] = (
    Rule(
        "Emphysema",
        ("emph", "bull", "bleb", "amph"),
        any_of(
            r"\bemph?y?sa?[ae]m\w*|\bemph(?:ys)?\b|\bamphys\w*|\bbull(?:a|ae|as|ous|ey|oid)?\b"
            r"|\bblebs?\b"
        ),
        mask=any_of(
            r"\b(?:subcutaneous|mediastinal|soft tissue|skin|chest wall|surgical|interstitial"
            r"|periorbital)(?:[ /-]+\w+){0,2}[ /-]+emph?ys\w*",
            r"\bemph?ys\w*[^,;]{0,40}\b(?:skin|subcutaneous|chest wall|soft tissue|thoracic wall"
            r"|muscle)\w*|\bemph?ys\w* (?:cholecyst|cystit|gastrit|pyelo)\w*",
        ),
    ),
    Rule(
        "Atelectasis",
        ("atel", "atal", "collaps", "dystel", "dyselec", "atx"),
        any_of(
            r"\bat[ae]l[ae]\w*|\batels?\b|\batx\b|\bdyst?elect\w*"
            r"|\b(?:overlying|adjacent|underlying|associated|compressi\w+|passive|dependent"
            r"|relaxation) collapse\b"
            r"|\b(?:lung|lobar|lobe|segment\w*|partial\w*|complete\w*|total\w*|middle lobe|passive"
            r"|lower lobe|upper lobe|basal|basilar)\b[^,;]{0,20}?\bcollaps\w+"
            r"|\bcollaps\w+(?: \w+){0,4}? (?:lung|lobe)|\b(?:rul|rml|rll|lul|lll) collaps\w+"
        ),
        mask=any_of(r"\bfibro[- ]?atel\w*(?:[- /]+(?=sequel|chang|dens|band|area))?"),
    ),
    Rule(
        "Lung nodule",
        ("nodul", "metast", "spn", "ggn", "lesion", "nod"),
        any_of(
            r"\bnodules?\b|\bmicro-?nodules?\b|\bnodul[ae]r (?:lesions?|opacit\w*"
            r"|densit\w+(?! increas)"
            r"|appearances?|structures?|areas?|focus|foci|images?|metasta\w+)|\bpseudonodul\w*"
            r"|\bnodular\b(?= (?:\w+ )?(?:lesion|metast))|\b(?:spn|ggn|nod)s?\b"
            r"|\b(?:coin|round(?:ed|ish)?|spiculated) lesions?\b"
        ),
        mask=any_of(
            r"\b(?:tree|bud)\w*[^,;]{0,20}nodul\w*",
            r"\bcentri-?(?:acinar|lobular)\s+(?:\w+\s+)?(?:micro)?nodular\w*(?: densit\w*)?",
            *_NOT_LUNG_NODULE,
            _NOT_ASSESSED,
        ),
        unless=any_of(_OTHER_ORGAN),
    ),
    Rule(
        "Lung nodule",
        ("granulom",),
        any_of(r"\bgranulomas?\b"),
        needs=any_of(_LUNG + r"|\blobes?\b"),
        unless=any_of(_OTHER_ORGAN),
    ),
    Rule(
        "Lung nodule",
        ("nodul",),
        any_of(
            r"\bnodules?\b|\bmicro-?nodules?\b|\bnodular (?:lesions?|opacit\w*"
            r"|densit\w+(?! increas)"
            r"|appearances?|structures?|metasta\w+)"
        ),
        mask=any_of(
            r"\b(?:thyroid|adrenal|breast|surrenal|gland|liver|spleen)\w*[^,;]{0,40}?\bnodul\w*",
            r"\bnodul\w*[^,;]{0,60}?\b(?:thyroid|adrenal|surrenal|gland|liver|spleen|breast)\w*",
            r"\bcentri-?(?:acinar|lobular)\s+(?:\w+\s+)?(?:micro)?nodular\w*(?: densit\w*)?",
            *_NOT_LUNG_NODULE,
            _NOT_ASSESSED,
        ),
        needs=any_of(_LUNG),
    ),
    Rule(
        "Lung nodule",
        ("metast",),
        any_of(
            r"\b(?:lung|pulmonary) metasta\w+|\bmetasta\w+(?=[^,;.]{0,40}\b(?:lungs?|lobes?)\b)"
        ),
        unless=any_of(r"\b(?:liver|adrenal|kidney|breast|bone|vertebra\w*|mediastinal|pleural)\b"),
    ),
    Rule(
        "Lung opacity",
        ("ground", "opaci", "crazy", "ggo", "glass", "densit", "hazy", "haze", "haziness"),
        any_of(
            r"\bground[- ]?glass\w*|\bggos?\b|\b(?:frosted|icy|ice)[- ]glass|\bcrazy[- ]?paving",
            r"\b(?:air-?space|parenchymal|lung|pulmonary|patchy|hazy|alveolar|multifocal|focal"
            r"|bilateral"
            r"|basilar|linear|streaky|interstitial|reticular|airspace|confluent|peripheral"
            r"|lower lobe"
            r"|upper lobe|middle lobe|lingular|perihilar|subpleural|diffuse)(?: \w+){0,2}?"
            r" opaci(?:ty|ties|fication|fications)\b",
            r"\bopaci(?:ty|ties|fication|fications)\b(?=[^;]{0,60}\b(?:lung|lobe|lingul|basal|base"
            r"|bases|parenchym|apex|perihilar))",
            r"\bopacities\b|\bopacity\b|\bopacification\b",
            r"\bhaz(?:e|y|iness)\b(?= (?:attenuation|density|increase|area))",
        ),
        mask=any_of(
            r"\bground[- ]?glass(?: densit\w+)? (?:\w+ )?nodul\w*"
            r"|\bopaci\w+ (?:of|with) (?:contrast|vessel|vascular)\w*"
            r"|\b(?:nodular|rounded|micronodular|band\w*)(?: \w+)? opaci\w+"
        ),
        unless=any_of(
            r"\b(?:kidney|renal|sinus\w*|mastoid|maxillary)\b",
            r"\A(?!.*\b(?:lungs?|lob\w+|pulmon\w+|parenchym\w*|segment\w*|bilateral\w*)\b)"
            r".*\b(?:ribs?|bones?|vertebra\w*|clavicle|scapula|sternum|dysplasia|humer\w+)\b",
        ),
    ),
    Rule(
        "Lung opacity",
        ("densit",),
        any_of(
            r"\b(?:linear |nodular |alveolar |acinar |dep[ae]nd[ae]nt |diffuse |nonspecific )?"
            r"densit(?:y|ies) (?:area )?increas\w*|\bincreas\w* in (?:\w+ )?density",
            r"\bincreased (?:\w+ )?density|\b(?:alveolar|acinar|linear"
            r"|dep[ae]nd[ae]nt) densit(?:y|ies)",
        ),
        mask=any_of(
            r"\b(?:pleuro-?\s?parenchymal|pleural parenchymal|sequel\w*|fibrotic|reticul\w*|low"
            r"|peribronch\w*)\b[^,;]{0,45}?densit\w*(?: increas\w*)?",
            r"\bincreas\w* in (?:pleuro|sequel|reticul|fibro)\w*(?: \w+){0,2} densit\w*",
            r"\bdensit\w*(?: increas\w*)?[^;]{0,80}?\b(?:pleuroparenchymal|consolidation)\b",
            r"(?<!linear )\bdensit\w*(?: area)?(?: increas\w*)?[^;]{0,80}?\b(?:sequel\w*"
            r"|atelectasis)\b",
            r"\bincreas\w* (?:in )?densit\w*[^;]{0,80}?\b(?:sequel\w*|atelectasis)\b",
        ),
        needs=any_of(r"\b(?:lungs?|lobes?|lingula\w*)\b"),
        unless=any_of(
            r"\b(?:liver|bones?|ribs?|fat|fatty|breasts?|muscle|skin|subcutaneous|suture"
            r"|mediastin\w*"
            r"|vertebra\w*|kidneys?|pleural thick\w*)\b"
        ),
    ),
    Rule(
        "Pulmonary fibrotic sequela",
        ("sequel", "secuel", "fibro", "scar", "cicatr", "pleuro", "band"),
        any_of(
            r"\bse[qc]uel\w*|\bfibro-?atele[ck]t\w*|\bfibros[ei]s\b|\bfibrotic\w*|\bfibrous\b"
            r"|\bfibroic\b"
            r"|\bscar(?:s|ring|red)?\b|\bcicatri\w*|\bfibro[- ]?atel\w*"
            r"|\bpleuro-?parenchymal (?:band\w*|density|densities|linear|retraction\w*"
            r"|recession\w*)"
            r"|\b(?:parenchymal|fibr(?:otic)?|subpleural) bands?\b"
        ),
        mask=any_of(
            r"\bfibrous tumou?r|\bfibrous dysplas\w*"
            r"|\b(?:cystic|idiopathic pulmonary|parenchymal) fibrosis\b"
            r"|\bthick\w* (?:of|in) (?:the )?parenchymal bands\b"
        ),
        unless=any_of(
            r"\b(?:fractures?|kidneys?|renal|perirenal|ribs?|liver|spleen|splenic|vertebra\w*"
            r"|breast|mastectom\w*|hepatic|pancrea\w*|skin|abdom\w*|bone|muscle|clavicle"
            r"|incision\w*|thoracotom\w*|laparotom\w*"
            r"|ca?esarean|endometri\w*|uter\w+|myocard\w*|infarct\w*|subcutaneous"
            r"|adrenal|mesenter\w*|thyroid\w*|scapula|pericholecyst\w*|sacroiliac|nephr\w*)\b"
        ),
    ),
    *(
        Rule(
            label,
            ("clear",),
            any_of(
                r"\blungs? (?:(?:are|is|appears?|remain|bilaterally|fields?) )*clear\b"
                r"|\bclear lungs\b"
                r"|^lungs?: clear\b"
            ),
            normal=True,
        )
        for label in ("Lung opacity", "Consolidation")
    ),
    Rule(
        "Mosaic attenuation pattern",
        ("mosaic",),
        any_of(r"\bmosaic\w*"),
    ),
    Rule(
        "Peribronchial thickening",
        ("bronch", "airway"),
        any_of(
            r"\bperi-?bronch\w*(?:[ -]+(?!is\b|are\b|was\b|were\b|lymph|consolid|area|ground"
            r"|inter-?lob|sept)\w+){0,5}?[ -]+" + _THICK,
            r"\bperi-?bronch\w*(?: and \w+)?(?: wall)? (?:cuff\w*|thickness|increase)",
            r"\bperi-?bronch\w* (?:walls?|sheaths?|tissues?) (?:is|are|was"
            r"|were) (?:\w+ly )?thick\w*",
            r"\bincreas\w*[^,;]{0,40}?\bperi-?bronchovascular (?:sheath|density|interstit\w*)",
            r"\b(?:thick|promin)\w*[^,;]{0,45}?\bperi-?bronch\w*|\bthick[- ]walled bronch\w*",
            r"\b(?:airways?|broncho-?vascular)(?: walls?| bundles?| interstit\w+)?"
            r" thick(?!ness)\w*",
            r"\bbronch(?:ial|us|i|iolar)?(?:[ -]+(?:wall|walls|and|peribronchial|bronchiolar"
            r"|mucosal"
            r"|structures?|tree))*[ -]+(?:(?:is|are|was|were|show|shows|have|has|been|diffusely"
            r"|mildly"
            r"|minimal|mild|slightly|moderately|severely|markedly|are"
            r"|appear)\s+)*(?:thick(?!ness)\w*|cuffing|prominence)",
            r"\bthick(?!ness)\w*(?: of| in)?(?: the)?(?: \w+){0,3}? bronch(?:ial|us"
            r"|i)\b(?: walls?)?",
            r"\bbronch(?:ial|us) wall\w*(?:(?!\bnot\b)[^,;]){0,20}?\bthick(?!ness)\w*",
        ),
        mask=any_of(
            r"\b(?:main|lobar|segment|intermediate) bronch\w+(?= (?:are|is) (?:open|patent))",
            r"\bbronchopneumon\w*",
        ),
    ),
    Rule(
        "Consolidation",
        ("cons", "airspace"),
        any_of(r"\bconsol(?:id|ut|d)\w*|\bcons(?:ol)?\b|\bair-?space (?:disease|dz)\b"),
        mask=any_of(
            r"\bground[- ]?glass(?:[- ]like)? consolid\w*",
            r"\bconsolidated (?:\w+ ){0,3}fractures?|\bconsolid\w* of (?:\w+ ){0,4}fractures?"
            r"|\bfractures?(?: \w+){0,4}? (?:is|are|has"
            r"|have|was"
            r"|were|appears?|shows?) (?:\w+ )?consolid\w*",
        ),
    ),
    Rule(
        "Bronchiectasis",
        ("bronchi", "bronchoect"),
        any_of(
            r"\bbronchi-?(?:ol)?e[ck]t\w*|\bbronchoectas\w*|\bbronchie\w*ta\w*",
            r"\b(?:dilat\w+|enlarge(?:d|ment)|ectatic|ectasia)(?: (?:of|in|the|and|lower|upper"
            r"|lobe|segmental|peripheral|central|subsegmental))* bronch(?:i|us|ial)\b"
            r"(?! (?:tree )?(?:is|are) (?:open|normal))",
            r"\bbronch(?:i|us|ial)(?: \w+){0,2} (?:(?:are|is|was|were|show\w*|mildly|minimally"
            r"|slightly"
            r"|diffusely|cystically)\s+)*(?:dilat\w+|ectas\w+|ectatic)",
        ),
    ),
    Rule(
        "Interlobular septal thickening",
        ("sept", "kerley", "lobular", "ils "),
        any_of(
            r"\binter-?lob\w+(?:[ -]+(?!fissure|atelec)\w+){0,3}?[ -]+(?:sept\w*"
            r"|interstit\w*)(?= (?:and \w+ )?"
            r"(?:\w+ ){0,3}?(?:thick|prominen|clarif|increase|line))",
            r"\binter-?lob\w+ (?:(?!fissure)\w+ ){0,3}?thick\w*",
            r"\b(?:prominen\w*|thick\w*)(?: (?!fibrotic"
            r"|bands?)[\w-]+){0,6}?[ -]\binter-?lob\w+ sept\w*",
            r"\bsept(?:al|a|um)\b(?: (?!not\b)\w+){0,2} (?:thick\w*|prominen\w*|lines)",
            r"\bthick\w*(?: of)?(?: (?:the|newly|emerged|inter|in))*"
            r" (?:inter-?lob\w+|interlobular) sept\w*|\bthick\w*(?: \w+){0,3} sept(?:a|al|um)\b"
            r"|\bthick\w* (?:of|in) parenchymal bands and inter-?lob\w+ sept\w*",
            r"\bkerley\b|\b(?:interseptal|ils|interlob sept\w*) thick\w*",
        ),
        mask=any_of(
            r"\bpara-?sept\w*|\bnasal sept\w*|\binter(?:ventricular|atrial) sept\w*"
            r"|\bintraventricular sept\w*"
        ),
    ),
)
