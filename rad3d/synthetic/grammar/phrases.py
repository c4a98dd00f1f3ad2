"""Phrase tables of the chest: how each finding is named and which sentences are its own.

In ``NOUNS`` a leading ``@`` asks for an article, ``+`` marks a plural, and ``?`` a last resort for
findings whose attributes are unknown. Each label keeps to terms that no other label uses: *opacity*
is ground-glass opacity, *fibrotic* is sequela, *thickening* always names septa or bronchi, and
calcification always names its artery.
"""

from __future__ import annotations

from rad3d.core.labels import PULMONARY_EMBOLISM

DEVICE_NOUNS: dict[str, tuple[str, ...]] = {
    "pacemaker": (
        "@{one_side} [chest wall|pectoral] pacemaker",
        "@{one_side}-sided [|cardiac ]pacemaker",
        "@[cardiac |]pacemaker [on the {one_side}|in the {one_side} chest wall]",
        "?@[cardiac |]pacemaker",
    ),
    "port catheter": (
        "@{one_side} [chest wall |chest |]port catheter",
        "@{one_side}-sided port catheter",
        "@port catheter [on the {one_side}|in the {one_side} chest wall]",
        "?@port catheter",
    ),
    "sternal wires": (
        "+sternal wires",
        "+[median |]sternotomy wires",
        "+sternal [wire sutures|cerclage wires]",
        "+metallic sternal wires",
    ),
    "nasogastric tube": (
        "@nasogastric tube",
        "@nasogastric [feeding|drainage] tube",
    ),
    "chest tube": (
        "@{one_side} [|pleural ]chest tube",
        "@{one_side}-sided chest tube",
        "@chest tube [on the {one_side}|in the {one_side} pleural space]",
        "?@chest tube",
    ),
}
DEVICE_TAILS: dict[str, tuple[str, ...]] = {
    "pacemaker": ("", " with [leads|its leads|electrodes] in the heart", " with leads in place"),
    "port catheter": ("", " with [its |]tip in the superior vena cava", " ending in the vena cava"),
    "sternal wires": ("", " [from|after] [previous|prior] [surgery|sternotomy]", " in place"),
    "nasogastric tube": ("", " with [its |]tip in the stomach", " ending in the stomach"),
    "chest tube": ("", " with [its |]tip in the pleural space", " in place"),
}

NOUNS: dict[str, tuple[str, ...]] = {
    "Arterial wall calcification": (
        "{sev} [wall |atherosclerotic |]calcification of the {sites}",
        "{sev} [calcified|calcific] plaque in the {sites}",
        "{sev} [atherosclerotic|arterial wall] calcification [in|along] the {sites}",
        "{sev} aortic [wall |]calcification[ involving| in| at] the {sites}",
        "?aortic [wall |]calcification",
    ),
    "Cardiomegaly": (
        "{sev} cardiomegaly",
        "{sev} cardiac enlargement",
        "{sev} enlargement of the [heart|cardiac silhouette]",
        "cardiomegaly of {sev} degree",
        "{sev} [global|overall] [cardiomegaly|cardiac enlargement]",
        "?cardiomegaly",
    ),
    "Pericardial effusion": (
        "@{size} pericardial effusion",
        "@{sev} pericardial effusion",
        "@{size} [circumferential|diffuse|simple] pericardial effusion",
        "?@pericardial effusion",
    ),
    "Coronary artery wall calcification": (
        "{sev} coronary artery calcification [of|in] the {sites} {artery}",
        "{sev} coronary [artery |]wall calcification in the {sites} {artery}",
        "{sev} coronary calcification [involving|along|in|of] the {sites} {artery}",
        "{sev} [calcified|calcific] coronary plaque in the {sites} {artery}",
        "{sev} atherosclerotic coronary [artery |]calcification [of|in] the {sites} {artery}",
        "?coronary artery calcification",
    ),
    "Hiatal hernia": (
        "@{size} hiatal hernia",
        "@{size} [axial |]hiatal hernia",
        "@{size} [sliding hiatal|hiatus|sliding type hiatal] hernia",
        "?@hiatal hernia",
    ),
    "Lymphadenopathy": (
        "+{n} enlarged {sites} lymph nodes",
        "{sites} lymphadenopathy with {n} [enlarged |]nodes",
        "+{n} [pathologic|abnormally enlarged|prominent enlarged] {sites} lymph nodes",
        "@[|single ]{single} enlarged {sites} lymph node",
        "@[single |]{single}[pathologic|abnormally enlarged] {sites} lymph node",
        "{single} {sites} lymphadenopathy",
        "?lymphadenopathy",
    ),
    "Emphysema": (
        "{sev} {kind} emphysema",
        "{sev} emphysema of [{kind}|the {kind}] type",
        "+{sev} [{kind} emphysematous|emphysematous {kind}] changes",
        "{sev} [predominantly|mainly] {kind} emphysema",
        "?emphysema",
    ),
    "Atelectasis": (
        "{sev} {kind} atelectasis",
        "@{sev}{focal} [area|zone] of {kind} atelectasis",
        "+{sev}{multifocal} areas of {kind} atelectasis",
        "+{sev} {kind} atelectatic changes",
        "{kind} atelectasis of {sev} [degree|extent]",
        "?atelectasis",
    ),
    "Lung nodule": (
        "+{n} {kind} [|pulmonary |lung ]nodules",
        "@{single} {kind} [|pulmonary |lung ]nodule",
        "?@pulmonary nodule",
    ),
    "Lung opacity": (
        "{ext} ground-glass opacity",
        "+{ext} [patchy |hazy |]ground-glass opacities",
        "@{ext}{focal} [area|zone] of ground-glass opacity",
        "+{ext} areas of [hazy |]ground-glass opacity",
        "?ground-glass opacity",
    ),
    "Pulmonary fibrotic sequela": (
        "+{sev} fibrotic sequelae",
        "+{sev} fibrotic [bands|changes|streaks]",
        "{sev} fibrotic [sequela|scarring]",
        "+{sev} pleuroparenchymal fibrotic sequelae",
        "?+fibrotic sequelae",
    ),
    "Pleural effusion": (
        "@{size} {one_side} pleural effusion",
        "+{size} {both} pleural effusions",
        "@{size} pleural effusion on the {one_side}",
        "@{size} {one_side}-sided [|layering |free ]pleural effusion",
        "+{size} [layering |free |]{bilateral}pleural effusions on both sides",
        "?@{size} pleural effusion",
        "?@pleural effusion",
    ),
    "Mosaic attenuation pattern": (
        "@{sev} mosaic attenuation pattern",
        "{sev} mosaic attenuation",
        "@{sev} mosaic pattern of [lung |]attenuation",
        "{sev} mosaic attenuation of the lung parenchyma",
        "?mosaic attenuation",
    ),
    "Peribronchial thickening": (
        "{sev} {central} peribronchial thickening",
        "{sev} {central} [peribronchial wall|bronchial wall] thickening",
        "{sev} {central} thickening of the bronchial walls",
        "{sev} {central} peribronchial cuffing",
        "?peribronchial thickening",
    ),
    "Consolidation": (
        "{ext} consolidation",
        "@{ext}{focal} area of consolidation",
        "+{ext}{multifocal} areas of consolidation",
        "{ext} [airspace|parenchymal|lobar] consolidation",
        "@{ext}{focal} [focus|zone] of [airspace |]consolidation",
        "?consolidation",
    ),
    "Bronchiectasis": (
        "{sev} {kind} bronchiectasis",
        "+{sev} {kind} bronchiectatic changes",
        "{sev} bronchiectasis of [{kind}|the {kind}] type",
        "@{sev}{focal} [area|zone] of {kind} bronchiectasis",
        "+{sev}{multifocal} areas of {kind} bronchiectasis",
        "?bronchiectasis",
    ),
    "Interlobular septal thickening": (
        "{sev} interlobular septal thickening",
        "{sev} thickening of the interlobular septa",
        "{sev} [smooth |]interlobular septal thickening",
        "interlobular septal thickening of {sev} [degree|extent]",
        "{sev} [smooth |uniform ]thickening of the interlobular septa",
        "+{adv} thickened interlobular septa",
        "?interlobular septal thickening",
    ),
    PULMONARY_EMBOLISM: (
        "@{size}{focal} filling defect{in_artery} [consistent with|representing] {embolism}",
        "+{size}{multifocal} filling defects{in_artery} [consistent with|representing] {embolism}",
        "{ext} [acute |]pulmonary embolism{in_artery}",
        "+{ext} pulmonary emboli{in_artery}",
        "@{size}{focal} filling defect{in_artery} indicating [acute |]pulmonary embolism",
        "?pulmonary embolism",
    ),
}

FRAMES: tuple[str, ...] = (
    "there {is} {np}{loc}{meas}",
    "{np}{loc}{meas}",
    "{np} {is} [seen|noted|present|identified|observed|visible]{loc}{meas}",
    "note is made of {np}{loc}{meas}",
    "[the scan|the CT|imaging] [shows|demonstrates] {np}{loc}{meas}",
)
"""Sentences that any finding can stand in."""

PLACE_FIRST: tuple[str, ...] = (
    "{loc_first}, there {is} {np}{meas}",
    "{loc_first}, {np} {is} [seen|noted|present|observed]{meas}",
)
"""Sentences that begin with the place."""

HEDGES: tuple[str, ...] = (
    "imaging findings [suggestive of|consistent with|compatible with] {np}{loc}{meas}",
    "[appearance|appearances] [suggestive of|in keeping with] {np}{loc}{meas}",
    "there are findings [suggestive of|consistent with] {np}{loc}{meas}",
)
HEDGED: frozenset[str] = frozenset(
    {
        "Lymphadenopathy",
        "Emphysema",
        "Atelectasis",
        "Lung opacity",
        "Pulmonary fibrotic sequela",
        "Mosaic attenuation pattern",
        "Peribronchial thickening",
        "Consolidation",
        "Bronchiectasis",
        "Interlobular septal thickening",
        "Cardiomegaly",
    }
)
"""Labels whose appearance may be hedged; a tube or a measured effusion is simply there."""

OWN_SENTENCES: dict[str, tuple[str, ...]] = {
    "Cardiomegaly": (
        "the heart [is|appears] {adv} enlarged",
        "heart size is {adv} increased",
        "the cardiac silhouette [is|appears] {adv} enlarged",
        "there is {adv} increased heart size",
    ),
    "Arterial wall calcification": (
        "the {sites} [shows|contains|has] {sev} [wall|atherosclerotic] calcification",
        "the wall of the {sites} is {adv} calcified",
        "{sev} atherosclerosis with [wall |]calcification of the {sites}",
    ),
    "Coronary artery wall calcification": (
        "coronary [artery |]calcification is {sev}, involving the {sites} {artery}",
        "coronary calcification, {sev}, is [seen|noted|present] in the {sites} {artery}",
    ),
    "Hiatal hernia": ("{size} herniation of the stomach through the hiatus (hiatal hernia){meas}",),
    "Lymphadenopathy": (
        "{n} {sites} lymph nodes are enlarged{meas}",
        "enlargement of {n} {sites} lymph nodes{meas}",
        "{single} [a|one] {sites} lymph node is enlarged{meas}",
    ),
    "Emphysema": ("both lungs [show|demonstrate] {sev} {kind} emphysema",),
    "Lung nodule": (
        "{a_mm} {kind} [|pulmonary |lung ]nodule{single} [is seen|is noted|is present|]{loc}",
        "{n} {kind} nodules{loc}{meas}",
    ),
    "Pleural effusion": (
        "pleural effusion [is seen |is present |]on the {one_side}, {size} in [size|volume]{meas}",
        "pleural effusions [are seen |are present |]on both sides, {both_size} in size{meas}",
    ),
    "Mosaic attenuation pattern": (
        "both lungs [show|demonstrate] {sev} mosaic attenuation",
        "lung attenuation is heterogeneous with a {sev} mosaic attenuation pattern{loc}",
    ),
    "Peribronchial thickening": ("the {central} bronchial walls are {adv} thickened{loc}",),
    "Interlobular septal thickening": ("the interlobular septa are {adv} thickened{loc}",),
    "Bronchiectasis": ("{kind} dilatation of the bronchi, {sev} bronchiectasis,{loc}",),
    PULMONARY_EMBOLISM: (
        "filling defects{in_artery}, [in keeping with|consistent with] {ext} pulmonary embolism",
        "positive for {ext} pulmonary embolism{in_artery}",
    ),
}

TAILS: dict[str, tuple[str, ...]] = {
    "Consolidation": (", suggestive of pneumonia", ", likely infectious"),
    "Lung opacity": (", likely infectious or inflammatory", ", nonspecific"),
    "Lung nodule": (", follow-up recommended", ", for follow-up"),
    "Lymphadenopathy": (", for follow-up",),
    "Interlobular septal thickening": (", suggestive of edema",),
    "Cardiomegaly": (),
}
"""Interpretations that an impression may add."""
