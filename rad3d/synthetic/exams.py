"""Tables of other organs and modalities: what each structure looks like, normal and abnormal.

An abnormality is a key (for lists), a sentence and an impression with the slots ``{side}``,
``{mm}``, ``{sev}`` and ``{sev_adv}``. None of it is a chest CT.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Abnormality:
    """One thing a structure can have.

    Attributes:
        key: short name in summaries.
        text: sentence template.
        impression: phrase template.
        mm: smallest and largest size; None where no size is stated.
    """

    key: str
    text: str
    impression: str
    mm: tuple[int, int] | None = None


@dataclass(frozen=True)
class Structure:
    """A part of an exam with its normal sentence and what it can have."""

    name: str
    normal: str
    abnormal: tuple[Abnormality, ...]


def _a(key: str, text: str, impression: str, mm: tuple[int, int] | None = None) -> Abnormality:
    return Abnormality(key, text, impression, mm)


def _s(name: str, normal: str, *abnormal: Abnormality) -> Structure:
    return Structure(name, normal, abnormal)


# fmt: off
EXAMS: dict[str, tuple[Structure, ...]] = {
    "abdomen CT": (
        _s("liver", "the liver is [normal|unremarkable|normal in size and density]",
           _a("cyst", "[there is|note is made of] a {mm} mm cyst in the liver",
              "liver cyst, {mm} mm", (5, 60)),
           _a("steatosis", "{sev} steatosis of the liver", "{sev} hepatic steatosis"),
           _a("hemangioma", "a {mm} mm hemangioma is [seen|present] in the liver",
              "hepatic hemangioma", (8, 50))),
        _s("gallbladder", "the gallbladder is [normal|unremarkable]",
           _a("stones", "[multiple |]gallbladder stones up to {mm} mm", "cholelithiasis", (3, 20)),
           _a("wall edema", "{sev} wall edema of the gallbladder",
              "findings suggestive of cholecystitis")),
        _s("pancreas", "the pancreas is [normal|unremarkable]",
           _a("cyst", "a {mm} mm cyst in the [head|tail] of the pancreas", "pancreatic cyst",
              (4, 30)),
           _a("edema", "{sev} edema around the pancreas", "{sev} acute pancreatitis")),
        _s("kidneys", "[both |the ]kidneys are [normal|unremarkable]",
           _a("stone", "a {mm} mm stone is [seen|noted] in the {side} kidney",
              "{side} renal stone, {mm} mm", (2, 15)),
           _a("hydronephrosis", "{sev} {side} hydronephrosis", "{sev} {side} hydronephrosis"),
           _a("cyst", "simple cyst of the {side} kidney, {mm} mm", "{side} renal cyst", (6, 70))),
        _s("spleen", "the spleen is [normal|normal in size]",
           _a("splenomegaly", "the spleen is enlarged, {mm} mm", "splenomegaly", (131, 200))),
        _s("bowel", "the bowel is [normal|unremarkable]",
           _a("diverticulosis", "{sev} diverticulosis of the [sigmoid colon|colon]",
              "{sev} diverticulosis"),
           _a("obstruction", "dilated small bowel loops up to {mm} mm",
              "small bowel obstruction", (31, 60))),
        _s("appendix", "the appendix is normal",
           _a("appendicitis", "the appendix is dilated to {mm} mm with fat stranding",
              "acute appendicitis", (9, 18))),
    ),
    "brain MR": (
        _s("ventricles", "the ventricles are [normal in size|normal]",
           _a("hydrocephalus", "{sev} enlargement of the ventricles", "{sev} hydrocephalus")),
        _s("white matter", "the white matter is [normal|unremarkable]",
           _a("small vessel disease", "{sev} white matter changes", "{sev} small vessel disease"),
           _a("demyelination", "multiple demyelinating lesions up to {mm} mm",
              "findings suggestive of multiple sclerosis", (4, 20))),
        _s("cortex", "the cortex is [normal|intact]",
           _a("infarct", "restricted diffusion in the {side} hemisphere, {mm} mm",
              "acute {side} infarct", (6, 80)),
           _a("tumor", "an enhancing tumor in the {side} hemisphere, {mm} mm",
              "{side} brain tumor, {mm} mm", (8, 60))),
        _s("sinuses", "the sinuses are clear",
           _a("sinusitis", "{sev} mucosal swelling of the {side} maxillary sinus",
              "{side} sinusitis")),
        _s("hemorrhage", "no [intracranial |]hemorrhage",
           _a("subdural hematoma", "{side} subdural hematoma, {mm} mm",
              "{side} subdural hematoma", (4, 25))),
    ),
    "chest X-ray": (
        _s("heart", "the heart is normal in size",
           _a("cardiomegaly", "the heart is {sev_adv} enlarged", "{sev} cardiomegaly")),
        _s("lungs", "the lungs are clear",
           _a("consolidation", "{sev} consolidation in the {side} lower zone",
              "{side} consolidation, suggestive of pneumonia"),
           _a("nodule", "a {mm} mm nodule in the {side} upper zone", "{side} lung nodule",
              (6, 30))),
        _s("pleura", "no pleural effusion or pneumothorax",
           _a("pleural effusion", "{sev} {side} pleural effusion",
              "{sev} {side} pleural effusion"),
           _a("pneumothorax", "{sev} {side} pneumothorax", "{sev} {side} pneumothorax")),
        _s("bones", "the bones are [intact|unremarkable]",
           _a("rib fracture", "fracture of a {side} rib", "{side} rib fracture")),
    ),
    "lumbar spine MR": (
        _s("alignment", "alignment is [normal|preserved]",
           _a("listhesis", "{sev} anterior slip of L4 on L5, {mm} mm", "{sev} listhesis of L4",
              (2, 12))),
        _s("discs", "the discs are [normal|normal in height]",
           _a("herniation", "{side} disc herniation at L5-S1, {mm} mm",
              "{side} disc herniation at L5-S1", (3, 12)),
           _a("bulge", "{sev} disc bulge at L4-L5", "{sev} disc bulge at L4-L5")),
        _s("canal", "the spinal canal is [normal|wide]",
           _a("stenosis", "{sev} stenosis of the spinal canal at L3-L4",
              "{sev} spinal stenosis")),
        _s("vertebrae", "the vertebrae are normal in height",
           _a("fracture", "{sev} compression fracture of L1", "{sev} fracture of L1")),
    ),
    "knee MR": (
        _s("menisci", "both menisci are [intact|normal]",
           _a("tear", "tear of the [medial|lateral] meniscus", "meniscal tear")),
        _s("ligaments", "the [cruciate |]ligaments are intact",
           _a("rupture", "complete rupture of the anterior cruciate ligament",
              "anterior cruciate ligament rupture")),
        _s("cartilage", "the cartilage is [preserved|normal]",
           _a("cartilage loss", "{sev} cartilage loss of the patella",
              "{sev} osteoarthritis")),
        _s("joint", "no joint effusion",
           _a("joint effusion", "{sev} joint effusion", "{sev} joint effusion"),
           _a("cyst", "popliteal cyst, {mm} mm", "popliteal cyst", (10, 60))),
    ),
    "thyroid ultrasound": (
        _s("lobes", "both thyroid lobes are normal in size",
           _a("thyroid nodule", "a {mm} mm nodule in the {side} thyroid lobe",
              "{side} thyroid nodule, {mm} mm", (4, 40)),
           _a("goiter", "{sev} enlargement of the {side} thyroid lobe", "{side} goiter")),
        _s("texture", "the texture is homogeneous",
           _a("thyroiditis", "{sev} heterogeneous texture", "findings suggestive of thyroiditis")),
        _s("neck nodes", "normal neck nodes",
           _a("enlarged node", "enlarged {side} neck node, {mm} mm", "enlarged {side} neck node",
              (11, 30))),
    ),
    "kidney ultrasound": (
        _s("kidneys", "both kidneys are normal in size",
           _a("hydronephrosis", "{sev} {side} hydronephrosis", "{sev} {side} hydronephrosis"),
           _a("stone", "a {mm} mm stone in the {side} kidney", "{side} renal stone", (3, 20)),
           _a("cyst", "{side} renal cyst, {mm} mm", "{side} renal cyst", (6, 70))),
        _s("bladder", "the bladder is [normal|unremarkable]",
           _a("bladder stone", "a {mm} mm stone in the bladder", "bladder stone", (4, 25)),
           _a("wall swelling", "{sev} swelling of the bladder wall",
              "findings suggestive of cystitis")),
        _s("prostate", "the prostate is normal in size",
           _a("enlarged prostate", "{sev} enlargement of the prostate",
              "{sev} prostate enlargement")),
    ),
    "shoulder MR": (
        _s("rotator cuff", "the rotator cuff is intact",
           _a("tear", "[full|partial] tear of the supraspinatus tendon, {mm} mm",
              "supraspinatus tear", (4, 30)),
           _a("tendinosis", "{sev} tendinosis of the supraspinatus", "{sev} tendinosis")),
        _s("labrum", "the labrum is intact", _a("labral tear", "tear of the labrum",
                                                "labral tear")),
        _s("bursa", "no fluid in the bursa",
           _a("bursitis", "{sev} fluid in the bursa", "{sev} bursitis")),
    ),
    "head CT": (
        _s("hemorrhage", "no intracranial hemorrhage",
           _a("epidural hematoma", "{side} epidural hematoma, {mm} mm",
              "{side} epidural hematoma", (4, 30)),
           _a("intracerebral hemorrhage", "{side} intracerebral hemorrhage, {mm} mm across",
              "{side} intracerebral hemorrhage, {mm} mm", (8, 70))),
        _s("parenchyma", "gray and white matter are well [differentiated|preserved]",
           _a("old infarct", "old infarct in the {side} [frontal|parietal|occipital] lobe",
              "old {side} infarct"),
           _a("atrophy", "{sev} cerebral atrophy", "{sev} atrophy")),
        _s("midline", "no midline shift",
           _a("shift", "midline shift to the {side} of {mm} mm",
              "midline shift to the {side}", (2, 15))),
        _s("skull", "the skull is intact",
           _a("fracture", "fracture of the {side} temporal bone", "{side} skull fracture")),
    ),
    "pelvis MR": (
        _s("uterus", "the uterus is [normal|normal in size]",
           _a("fibroid", "[intramural|subserosal] fibroid of the uterus, {mm} mm",
              "uterine fibroid, {mm} mm", (8, 90)),
           _a("adenomyosis", "{sev} adenomyosis", "{sev} adenomyosis")),
        _s("ovaries", "both ovaries are [normal|unremarkable]",
           _a("cyst", "{side} ovarian cyst, {mm} mm", "{side} ovarian cyst", (12, 80)),
           _a("endometrioma", "{side} ovarian endometrioma, {mm} mm",
              "{side} endometrioma", (10, 60))),
        _s("bladder", "the bladder is unremarkable",
           _a("tumor", "a {mm} mm tumor of the bladder wall", "bladder tumor, {mm} mm", (6, 50))),
        _s("rectum", "the rectum is normal",
           _a("tumor", "{sev} wall swelling of the rectum over {mm} mm",
              "findings suggestive of a rectal tumor", (15, 70))),
    ),
    "mammography": (
        _s("density", "the breasts are [mostly fatty|of scattered density]",
           _a("dense", "the breasts are {sev_adv} dense", "{sev_adv} dense breasts")),
        _s("masses", "no suspicious mass",
           _a("mass", "[spiculated|rounded|oval] mass in the {side} breast, {mm} mm",
              "{side} breast mass, {mm} mm", (5, 40))),
        _s("clusters", "no suspicious microcalcifications",
           _a("cluster", "cluster of microcalcifications in the {side} breast, {mm} mm",
              "{side} microcalcifications, biopsy recommended", (4, 30))),
    ),
    "hip X-ray": (
        _s("joint space", "the joint space is [preserved|normal]",
           _a("narrowing", "{sev} narrowing of the {side} joint space",
              "{sev} {side} hip osteoarthritis")),
        _s("femur", "the femur is intact",
           _a("fracture", "fracture of the {side} femoral neck",
              "{side} femoral neck fracture")),
        _s("implant", "no implant",
           _a("prosthesis", "{side} hip prosthesis in [good|correct] position",
              "{side} hip prosthesis")),
    ),
    "ankle X-ray": (
        _s("malleoli", "the malleoli are intact",
           _a("fracture", "{side} [lateral|medial] malleolus fracture with {mm} mm displacement",
              "{side} ankle fracture", (1, 9))),
        _s("soft tissue", "no soft tissue swelling",
           _a("swelling", "{sev} soft tissue swelling", "{sev} soft tissue swelling")),
        _s("heel", "the calcaneus is intact",
           _a("spur", "a {mm} mm heel spur", "heel spur", (2, 12))),
    ),
    "neck CT": (
        _s("pharynx", "the pharynx and larynx are [normal|symmetric]",
           _a("abscess", "{side} tonsillar abscess, {mm} mm", "{side} tonsillar abscess",
              (8, 40)),
           _a("tumor", "enhancing tumor of the {side} tongue base, {mm} mm",
              "{side} tongue base tumor", (8, 50))),
        _s("salivary glands", "the salivary glands are [normal|unremarkable]",
           _a("stone", "a {mm} mm stone in the {side} submandibular duct",
              "{side} submandibular stone", (2, 15)),
           _a("tumor", "{side} parotid tumor, {mm} mm", "{side} parotid tumor", (6, 45))),
        _s("thyroid", "the thyroid is [normal|homogeneous]",
           _a("goiter", "{sev} enlargement of the thyroid", "{sev} goiter")),
    ),
    "liver MR": (
        _s("liver", "the liver is normal in signal",
           _a("metastases", "several metastases of the liver, the largest {mm} mm",
              "liver metastases", (6, 70)),
           _a("cirrhosis", "{sev} nodular contour of the liver", "{sev} cirrhosis")),
        _s("bile ducts", "the bile ducts are [normal|not dilated]",
           _a("dilatation", "bile ducts dilated to {mm} mm", "biliary dilatation", (8, 22)),
           _a("duct stone", "a {mm} mm stone in the common bile duct",
              "bile duct stone, {mm} mm", (3, 16))),
        _s("ascites", "no ascites",
           _a("ascites", "{sev} ascites", "{sev} ascites")),
        _s("portal vein", "the portal vein is patent",
           _a("thrombosis", "{sev} thrombosis of the portal vein", "portal vein thrombosis")),
    ),
    "leg ultrasound": (
        _s("deep veins", "the deep veins are [compressible|patent]",
           _a("thrombosis", "thrombosis of the {side} [femoral|popliteal] vein",
              "{side} deep vein thrombosis")),
        _s("arteries", "normal flow in the arteries",
           _a("stenosis", "{sev} stenosis of the {side} femoral artery",
              "{sev} {side} femoral artery stenosis")),
        _s("soft tissue", "no fluid collection",
           _a("collection", "a {mm} mm fluid collection in the {side} calf",
              "{side} calf collection", (10, 80))),
    ),
}
# fmt: on
