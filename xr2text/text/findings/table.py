"""The findings that chest radiograph reports speak of, and the words they do it in: the table.

Each row gives regular expressions over a sentence in lower case:
- `says` names the finding. The words around it decide whether it is present, absent or uncertain.
- `denies` states its absence as a whole ("the heart is normal in size").
- `doubts` states its uncertainty ("heart size is at the upper limits of normal").
They match whole words, and their free words, `(?: \\w+)`, never stand for a negation.

The first fourteen are those of CheXpert (Irvin et al., AAAI 2019).
"""

from dataclasses import dataclass

from xr2text.text.findings.fragments import (
    BONES,
    BORDERLINE,
    CLEAR_LUNGS,
    HEART,
    HEART_ALONE,
    LARGE,
    MEDIASTINUM,
    NORMAL,
    RATIO,
    VESSELS,
    any_of,
    near,
)

LUNGS = ("right lung", "left lung")


@dataclass(frozen=True)
class Finding:
    """A finding: one row of the table.

    Attributes:
        name: the field's term, in lower case; also the column's name in label tables.
        regions: where it is seen, out of `anatomy.REGION_NAMES`, unless the sentence says otherwise.
        says, denies, doubts: regular expressions, see the module.
        elsewhere: further regions that it is placed in where the sentence names them.
    """

    name: str
    regions: tuple[str, ...]
    says: tuple[str, ...] = ()
    denies: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()


FINDINGS: tuple[Finding, ...] = (
    Finding("no finding", ()),  # derived from all others, see `labeler.label_report`
    Finding("enlarged cardiomediastinum", ("mediastinum",), says=(
        r"(?:widened|widening of the|enlarged|enlargement of the|prominen\w+(?: of the)?|abnormal|fullness of the)"
        r"(?: (?!and\b)\w+){0,2} (?:cardio-?mediastin\w+|mediastin\w+)(?! (?:and hilar )?(?:lymph|aden|node))",
        near("(?:cardio-?)?mediastin(?:um|al (?:silhouettes?|contours?|structures|shadow|width))",
             "(?:widened|enlarged|prominent|prominence|wide|full(?:ness)?)", 60),
        "mediastinal (?:widening|enlargement|prominence|fullness)",
    ), denies=(
        near(MEDIASTINUM, NORMAL), near("(?:normal|unremarkable)", MEDIASTINUM, 40),
        r"no (?:\w+ ){0,2}mediastinal (?:widening|abnormality|enlargement|pathology)",
        r"mediastin(?:um|al (?:contours?|silhouette|structures))(?: \w+){0,2} (?:is|are) (?:clear|midline|intact)",
        r"(?:normal|unremarkable) (?:\w+ ){0,3}cardio-?mediastin\w+",
    ), doubts=(near(MEDIASTINUM, "borderline", 40), r"borderline (?:\w+ ){0,2}mediastin\w+")),
    Finding("cardiomegaly", ("heart",), says=(
        "cardiomegaly", r"cardiac (?:\w+ )?enlargement", r"enlargement of (?:the |his |her )?(?:heart|cardiac\w*)",
        r"enlarged(?: \w+){0,2} (?:heart|cardiac|cardio-?mediastinal|cardiopericardial)",
        near(HEART, any_of(LARGE, "(?:moderately|mildly|markedly|severely|slightly) prominent"), 45),
        r"enlarge\w* (?:of )?(?:the )?(?:cardiac|heart|cardio-?mediastinal)",
        rf"{HEART},? which (?:is|appears)(?: \w+){{0,2}}? {LARGE}",
        r"(?:left|right|bi)-? ?(?:ventricular|atrial) (?:\w+ )?(?:enlargement|hypertrophy|dilat\w+|prominence)",
        r"increased? (?:\w+ )?(?:heart|cardiac) size",
        near(RATIO, "(?:increased|enlarged|elevated|above|exceeds|greater than)", 30),
    ), denies=(
        rf"{RATIO}(?: (?!above|exceed|greater|increased)\w+){{0,3}} {any_of(NORMAL, 'below', 'less than')}",
        near(HEART, NORMAL), "normal[- ]sized? (?:heart|cardiac)",
        r"(?:normal|unremarkable)(?: in)?(?: \w+){0,3}? (?:hearts?|cardiac|cardio-?mediastinal|cardio-?pericardial|"
        r"cardiomediastinum)\b",
        r"(?:heart|cardiac)(?: \w+){0,3} (?:is|are|appears?) (?:small|clear)",
    ), doubts=(
        near(HEART_ALONE, BORDERLINE, 45),
        r"(?:borderline|upper limits? of normal|top[- ]normal|high[- ]normal|prominent)(?: in| for)?"
        r"(?: \w+){0,2} (?:hearts?|cardiac|cardiomegaly|cardio-?mediastinal)",
        near("cardiomegaly", "borderline", 20),
        near("(?:cardio-?mediastinal silhouette)",
             "(?:upper limits?|top[- ]normal|borderline|high[- ]normal|prominent)", 45),
    )),
    Finding("lung opacity", LUNGS, says=(
        r"opaci\w+", r"infiltrat\w+", "shadowing",
        r"(?<!retrosternal )(?:air|alveolar)[- ]?space (?:disease|process|change|abnormalit\w+)s?",
        r"(?:ill[- ]defined|increased|hazy|patchy|focal|streaky|basilar|basal|vague|subtle|linear|retrocardiac|lower|"
        r"upper|middle|lung|lobe|alveolar|ground[- ]glass|pulmonary|rounded|airspace)(?: \w+)? densit(?:y|ies)",
        r"densit(?:y|ies)(?: \w+){0,4} (?:lung|lobe|base|lingula|hil\w+|apex|hemithorax|costophrenic)",
        "haz(?:e|iness|y)", "ground[- ]glass", "air bronchograms?", r"parenchymal (?:disease|process|abnormalit\w+)",
    ), denies=CLEAR_LUNGS),
    Finding("lung lesion", LUNGS, says=(
        r"(?:lung|pulmonary|parenchymal|cavit\w+|suspicious|spiculated|lobe|dominant)(?: \w+)? lesions?",
        r"(?:micro)?nodul\w+", "mass(?:es)?(?:-?like)?",
        r"lesions? (?:in|within|of|at) (?:the )?(?:\w+ ){0,3}(?:lung|lobe|base|apex|hilum|lingula)", r"neoplasm\w*",
        "neoplastic", r"malignan\w+", r"metasta\w+", "carcinoma", "tumou?rs?", r"cavit(?:y|ary|ation|ies)\w*",
        "(?:lung|pulmonary|bronchogenic) cancer", r"cysts?\b(?! wall)",
    )),
    Finding("edema", LUNGS, says=(
        r"(?<!soft tissue )o?edema\w*", "(?:congestive|heart|cardiac|ventricular|overt) failure", "chf",
        "(?:volume|fluid) overload", "cardiac decompensation", "kerley(?:'s)?(?: b| a)? lines?",
    )),
    Finding("consolidation", LUNGS, says=(r"consolidat\w+",), denies=CLEAR_LUNGS),
    Finding("pneumonia", LUNGS, says=(
        r"(?:broncho)?pneumoni(?:a|as|c)\b", "pna", "pneumonitis",
        r"(?<!granulomatous )(?<!prior )(?<!previous )(?<!old )(?<!remote )infect\w+",
    )),
    Finding("atelectasis", LUNGS, says=(
        r"(?:a|dys)telecta\w+", "collapsed?(?! of (?:the )?vertebra)", "volume loss", "loss of (?:lung )?volume",
    ), elsewhere=("diaphragm",)),
    Finding("pneumothorax", LUNGS, says=("(?:hydro|hemo)?-?pneumothora(?:x|ces|xes)", "ptx", "pneumothorax")),
    Finding("pleural effusion", ("costophrenic angles",), says=(
        "(?<!pericardial )effusions?", "pleural (?:fluid|collections?)", "hydro(?:pneumo)?thorax", "hemothorax",
        r"fluid (?:in|within|along) (?:the )?(?:\w+ ){0,2}(?:fissures?|pleural)", "fluid collections?", "empyema",
    ), denies=(
        r"(?:costophrenic|cp) (?:angles?|sulc\w+|recess\w*|sinus\w*)(?: \w+){0,3} (?:clear|sharp|free|unremarkable|"
        r"preserved|well[- ]defined|normal|intact|maintained|not blunted)",
        r"(?:clear|sharp|normal)(?: \w+)? (?:costophrenic|cp) (?:angles?|sulc\w+)",
        r"pleural (?:spaces?|surfaces?|margins?)(?: \w+){0,3} "
        r"(?:clear|unremarkable|normal|intact|no (?:acute )?abnormalit\w+)",
        r"no (?:\w+ ){0,3}blunting",
    ), doubts=(
        r"(?:blunt|obliterat)\w*(?: \w+){0,4} (?:costophrenic|cp|angles?|sulc\w+)",
        r"(?:costophrenic|cp|angles?|sulc\w+)(?: \w+){0,4} (?:blunt|obliterat)\w*", "costophrenic blunting",
    ), elsewhere=LUNGS),
    Finding("pleural other", LUNGS, says=(
        r"pleural[- ](?:\w+ ){0,3}?(?:thickening|plaques?|scar\w*|calcifi\w+|based|disease|reaction|changes?|fibrosis)",
        r"(?:thicken\w+|plaques?|scar\w*|calcifi\w+)(?: \w+){0,3} pleura\w*", "fibrothorax",
        "apical (?:pleural )?cap(?:ping)?", "fissural thickening", r"thicken\w+ of (?:the )?(?:\w+ )?fissures?",
        "pleural parenchymal", "pleuro-?parenchymal",
    ), elsewhere=("costophrenic angles", "diaphragm")),
    Finding("fracture", (*LUNGS, "spine"), says=(
        r"(?<!catheter )(?<!wire )fractur\w+", r"compression deformit\w+",
        r"compression of (?:the )?(?:\w+ ){0,2}vertebra\w*", "vertebral (?:body )?(?:collapse|compression)",
        r"broken (?:\w+ ){0,3}(?:ribs?|bones?|clavicle)",
    ), denies=(
        near(BONES, any_of("normal", "unremarkable", "intact", "within normal", "negative"), 50),
        r"no (?:\w+ ){0,5}?(?:bony|osseous|bone|skeletal|rib)(?: \w+)? (?:abnormalit\w+|lesions?|findings?|injur\w+|"
        r"pathology|destruction|process)",
        r"(?:intact|unremarkable|normal)(?: \w+){0,2} (?:bon(?:y|es?)|osseous|skelet\w+|ribs|thoracic cage)",
        r"no (?:\w+ ){0,3}abnormalit\w+ (?:of|in) (?:the )?(?:bones?|bony|osseous|skelet\w+)",
    )),
    Finding("support devices", ("mediastinum",), says=(
        "tubes?", "catheters?", "picc", "port(?:-?a-?cath)?s?", "porta-?cath", "infus-?a-?port", "med-?iports?",
        r"(?:central|venous|picc|arterial|subclavian|jugular|ij|dialysis|support|monitoring|indwelling|iv|"
        r"femoral)(?: \w+)? lines?",
        "lines? (?:and|or) tubes?", "pacemakers?", "pacers?", "pacing", "aicds?", "icds?", "defibrillators?", "leads?",
        "stents?", "stimulators?", "generators?",
        r"tips?(?: \w+){0,6} (?:svc|superior vena cava|cavo-?atrial|caval|atrium|brachiocephalic)",
        "prosthe(?:sis|tic|ses) valves?", "(?:valve|valvular) (?:prosthesis|replacement)",
        r"prosthetic (?:\w+ )?valves?", "valve ring", "tracheostomy", "hickman", "swan[- ]ganz", "endotracheal",
        "nasogastric", "orogastric", "dobh?off", "ett?", "ngt?", "ivc filter", "filter", "balloon pump", "iabp",
        "life support", "monitoring devices?", "drains?", "pigtail", "shunt", "loop recorder", "support devices?",
        "lvad", "impella", "ecmo", "devices?", "pulse generator", "battery pack",
    ), elsewhere=("heart", *LUNGS)),
    Finding("nodule", LUNGS, says=(r"(?:micro)?nodul(?:es?|arit\w+)", "fibro-?nodular"), elsewhere=("mediastinum",)),
    Finding("mass", LUNGS, says=(r"mass(?:es)?\b", "mass-?like"), elsewhere=("mediastinum",)),
    Finding("granuloma", LUNGS, says=(r"granuloma\w*", "histoplasmosis"), elsewhere=("mediastinum",)),
    Finding("emphysema or hyperinflation", (*LUNGS, "diaphragm"), says=(
        r"(?<!subcutaneous )(?<!soft tissue )emphysema\w*",
        r"hyper-?\s?(?:inflat|expan|aerat|lucen|distend|disten|extend)\w+",
        r"over-?\s?(?:inflat|expan|aerat|disten)\w+", "chronic obstructive", "copd",
        "obstructive (?:pulmonary|lung|airways?)", r"flatten\w+(?: \w+){0,5} (?:hemi-?)?diaphragm\w*",
        r"(?:hemi-?)?diaphragm\w*(?: \w+){0,4} flatten\w+", r"bull(?:a|ae|ous)\b", r"blebs?\b", "air[- ]trapping",
        r"increased (?:\w+ )?(?:retrosternal|lung volumes?)", "large lung volumes?",
        r"lung volumes? (?:\w+ ){0,3}(?:large|increased)", "barrel[- ](?:shaped )?chest",
        r"increased (?:ap|a-p|anterior\w*) diameter",
    )),
    Finding("low lung volumes", LUNGS, says=(
        r"low (?:\w+ ){0,2}(?:lung |inspiratory )?volumes?",
        r"lung volumes?(?: \w+){0,4} (?:low|decreased|diminished|reduced|small)",
        r"(?:decreas(?:ed|ing)|diminished|reduced|small|shallow|poor|limited|suboptimal|incomplete|low|"
        r"hypo-?ventilatory|submaximal|expiratory)(?: \w+){0,2} (?:inspirat\w+|lung volumes?|lung expansion|aeration|"
        r"ventilation|effort|inflation|depth)",
        r"(?:hypo|under)-?\s?(?:inflat|expan|aerat|ventilat)\w+",
        r"inspirat\w+(?: \w+){0,4} (?:low|poor|shallow|suboptimal|limited)", r"low inspir\w+",
        "poorly (?:inflated|expanded)", r"expiratory (?:film|view|phase|exam\w*|radiograph)",
    ), denies=(
        near("lungs?", any_of("well[- ](?:inflated|expanded|aerated)",
             "(?:normally|adequately|fully|appropriately|symmetrically) (?:inflated|expanded|aerated)"), 40),
        r"lung volumes?(?: \w+){0,3} (?:normal|adequate)", "normal lung volumes?",
        "well[- ](?:expanded|inflated|aerated)",
        r"(?:good|normal|adequate) (?:inspirat\w+|lung (?:volumes?|expansion|inflation))",
    )),
    Finding("scarring or fibrosis", LUNGS, says=(
        r"scar\w*", r"(?<!cystic )fibro(?:sis|tic|nodular|calcific)\w*", r"cicatri\w+", r"honeycomb\w*",
    ), elsewhere=("costophrenic angles", "diaphragm")),
    Finding("prominent lung markings", LUNGS, says=(
        r"(?:prominen\w+|increased|coarse\w*|accentuat\w+|exaggerat\w+|crowd\w+|thicken\w+|abnormal|chronic|diffuse|"
        r"mild)(?: \w+){0,5}? (?:interstiti\w+|broncho-?vascular|bronchial|lung|reticular|vascular|perihilar|"
        r"pulmonary)(?: \w+){0,2}? (?:markings|pattern)",
        r"(?:prominen\w+|increased|coarse\w*|accentuat\w+|crowd\w+) (?:markings|interstitium)",
        r"(?:interstiti\w+|broncho-?vascular|reticular|peribronchial)(?: \w+){0,3}? (?:markings?|patterns?|prominence|"
        r"thickening|changes?|crowding|coarsening|disease|abnormalit\w+)",
        r"markings(?: \w+){0,4} (?:prominent|increased|coarse\w*|accentuated|crowded)",
        r"(?:prominence|coarsening) of (?:the )?(?:\w+ ){0,4}(?:markings|interstitium)",
        r"crowding of (?:the )?(?:\w+ ){0,4}(?:markings|structures|interstitium|vascul\w+|broncho-?vascul\w+)",
        "interstitial (?:lung )?disease", "(?:septal|kerley) lines?", r"reticul(?:ar|onodular|ation)\w*",
        "(?:peri-?)?bronchial (?:wall )?(?:thickening|cuffing)", "bronchovascular crowding",
    ), denies=(r"(?:interstitial|lung|bronchovascular) markings(?: \w+){0,3} (?:normal|unremarkable)",)),
    Finding("vascular congestion", (*LUNGS, "heart"), says=(
        r"(?:vascul\w+|venous|pulmonary|hilar|perihilar|central)(?: \w+){0,2} (?:congest\w+|engorge\w+|distention|"
        r"redistribution)",
        "vascular prominence", r"indistinct (?:\w+ )?vascul\w+(?: margin\w*)?", r"vasculature (?:\w+ ){0,2}indistinct",
        r"prominence of (?:the )?(?:\w+ ){0,2}(?:vascul\w+|vessels)", r"congest(?:ion|ed)\b", r"engorge\w+",
        "cephali[sz]ation", "pulmonary venous hypertension",
        r"(?:prominen\w+|engorge\w+|increased|dilated|enlarged)(?: of)?(?: the)?(?: \w+){0,2} (?:pulmonary |central |"
        r"hilar )?(?:vascul\w+|vessels?|veins)",
        near("(?:pulmonary |central )?(?:vascularity|vasculature|vessels)",
             "(?:congested|engorged|prominent|increased|cephalized|distended|accentuated)", 45),
    ), denies=(
        near(VESSELS, any_of(NORMAL, "clear"), 50),
        r"(?:normal|unremarkable)(?: \w+){0,2} (?:vascularity|vasculature|vascular markings|pulmonary vessels|"
        r"vascular pattern)",
    )),
    Finding("degenerative change of the spine", ("spine",), says=(
        r"degenerat\w+(?! (?:(?!spine|spinal|thoracic)\w+ ){0,6}(?:shoulders?|acromio\w*|ac joints?|glenohumeral|"
        r"humer\w+|clavicul\w*))",
        r"(?:osteophyt|spondyl)\w*", "dis[ck](?: space)? (?:narrowing|disease|degeneration|height loss)", "spurring",
        r"spurs?\b", r"hypertrophic (?:\w+ ){0,3}(?:change|spur|lipping|osteo)\w*", r"dish\b",
        "diffuse idiopathic skeletal hyperostosis",
        r"osteoarthri\w+(?! (?:\w+ ){0,5}(?:shoulders?|acromio\w*|ac joints?))",
        r"endplate (?:changes?|sclerosis|irregular\w+)", "hypertrophic changes?",
        r"arthritic (?:\w+ ){0,2}change\w*(?! (?:\w+ ){0,3}shoulder)", r"syndesmophyt\w+", "arthropathy",
        "bony spurring",
    ), denies=(near("(?:thoracic )?spine", "(?:normal|unremarkable)", 30),)),
    Finding("scoliosis", ("spine",), says=(
        r"(?:kypho|roto|dextro|levo)?-?scolio\w+", r"(?:dextro|levo)[- ]?(?:curv\w+|convex\w*|rotat\w+)",
        "(?:s-?shaped|lateral|rightward|leftward|abnormal) curvature",
        "(?:spinal|spine|thoracolumbar|thoracic|lumbar) curvature",
        r"(?<!kyphotic )curvature of the (?:\w+ )?(?:thoracic |thoracolumbar |lumbar )?spine",
    )),
    Finding("kyphosis", ("spine",), says=(
        r"(?:hyper)?kypho(?:sis|tic|scolio\w+)", r"exaggerat\w+(?: \w+)? (?:thoracic )?(?:curvature|kyphosis)",
    )),
    Finding("osteopenia", ("spine",), says=(
        r"osteopeni\w+", r"osteoporo\w+", r"deminerali\w+", r"bone(?:s)?(?: \w+){0,2} deminerali\w+",
        r"decreased (?:bone|bony|osseous)(?: \w+)? (?:density|mineralization)",
    )),
    Finding("tortuous or atherosclerotic aorta", ("mediastinum",), says=(
        r"(?:tortu\w+|ecta\w+|unfold\w+|uncoil\w+|athero\w+|calcif\w+|dilat\w+|prominen\w+|aneurysm\w*|elongat\w+|"
        r"enlarged)(?: \w+){0,6}? aort(?:a|ic)\b(?! valv\w+)",
        r"aort(?:a|ic)\b(?! valve)(?:,? \w+){0,6}? (?:tortu\w+|ecta\w+|unfold\w+|uncoil\w+|athero\w+|calcif\w+|"
        r"dilat\w+|aneurysm\w*|elongat\w+|prominen\w+|enlarged)",
        r"athero\w+", r"(?:vascular|arterial|arch) calcif\w+",
        r"tortuous(?: \w+){0,2} (?:vessels?|mediastinal|great vessels|arch|vascul\w+)", r"tortu\w+",
        r"calcified(?: \w+)? (?:arch|great vessels)",
    ), denies=(near("(?:thoracic )?aort(?:a|ic (?:knob|arch|contours?))", "(?:normal|unremarkable)", 40),)),
    Finding("hiatal hernia", ("heart", "diaphragm"), says=(
        r"(?:hiatal|hiatus|diaphragmatic|paraesophageal|esophageal|retrocardiac|morgagni|bochdalek)(?: \w+)? herni\w*",
        r"hernia\w*", "intra-?thoracic stomach", r"herniat\w+ (?:of )?(?:the )?stomach",
    )),
    Finding("elevated diaphragm", ("diaphragm",), says=(
        r"elevat\w+(?: \w+){0,6}? (?:hemi-?)?diaphragm\w*", r"(?:hemi-?)?diaphragm\w*(?: \w+){0,4} elevat\w+",
        r"eventrat\w+", r"(?:hemi-?)?diaphragm\w* (?:\w+ ){0,3}(?:is|are) (?:\w+ )?(?:high|higher)",
    ), denies=(
        near("(?:hemi-?)?diaphragms?", "(?:normal|unremarkable)", 40),
        r"(?:hemi-?)?diaphragms?(?: \w+){0,3} not (?:\w+ )?elevated",
    )),
    Finding("surgical change", ("mediastinum",), says=(
        r"sternotom\w+", r"surgical\w*", r"post-?\s?(?:operative|surgical|op)\b", "cabg", "bypass", r"clips?\b",
        "sutures?", r"stapl\w+", r"resect\w+", r"(?:lob|pneumon|mast|thorac|cholecyst|laminect|splen)ectom\w+",
        r"thoracotom\w+", r"wires?\b(?! loop)",
        r"(?:spinal|cervical|lumbar|thoracic|anterior|posterior)(?: \w+)? fusion", "fusion hardware", "hardware",
        r"arthroplast\w+", r"reconstruct\w+", r"implants?\b", "orthopedic", r"rods?\b", "post surgical", "s/p",
        "status post", "vertebroplasty", "kyphoplasty", "augmentation",
    ), elsewhere=("heart", "spine", *LUNGS)),
    Finding("hilar or mediastinal adenopathy", ("mediastinum",), says=(
        r"(?:lymph)?-?adenopath\w+", r"(?<!calcified )(?:enlarged|prominent)(?: \w+){0,3} (?:lymph )?nodes?",
        r"hil(?:ar|a|um)(?: \w+)? enlargement", r"enlarge\w+(?: of)?(?: the)?(?: \w+){0,2} hil(?:a|um|ar)",
    ), doubts=(
        r"hil(?:ar|a|um)(?: \w+)? (?:prominence|fullness)",
        r"(?:prominen\w+|full\w*)(?: of)?(?: the)?(?: \w+){0,2} hil(?:a|um|ar)",
    )),
)  # fmt: skip

FINDING_NAMES: tuple[str, ...] = tuple(finding.name for finding in FINDINGS)
CHEXPERT_14: tuple[str, ...] = FINDING_NAMES[:14]
CHEXPERT_5: tuple[str, ...] = ("atelectasis", "cardiomegaly", "consolidation", "edema", "pleural effusion")

# Findings of one side: name, general finding, and the regions besides that side's lung.
_SIDED = (
    ("pleural effusion", "pleural effusion", ("costophrenic angles",)), ("lung opacity", "lung opacity", ()),
    ("lung consolidation", "consolidation", ()), ("pneumothorax", "pneumothorax", ()), ("lung nodule", "nodule", ()),
)  # fmt: skip
SIDED_FINDINGS: dict[str, tuple[str, str]] = {
    f"{side} {name}": (finding, side) for name, finding, _ in _SIDED for side in ("right", "left")
}
"""The findings of one side: by name the finding of the table and the patient's side."""
KINDS: dict[str, str] = {name: finding for name, (finding, _) in SIDED_FINDINGS.items()} | dict.fromkeys(
    ("nodule", "mass"), "lung lesion"
)
"""By finding the more general one that is present wherever it is; the most special ones first."""
FINDING_REGIONS: dict[str, tuple[str, ...]] = {
    finding.name: finding.regions for finding in FINDINGS if finding.regions
} | {f"{side} {name}": (f"{side} lung", *more) for name, _, more in _SIDED for side in ("right", "left")}
"""Where each finding is to be seen: those of the table, and those of one side."""
