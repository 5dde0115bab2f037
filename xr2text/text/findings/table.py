"""The findings that chest radiograph reports speak of, and the words they do it in: the one table.

Each row gives regular expressions over a sentence in lower case, in three kinds. `says` names the finding: whether it
is present, absent or uncertain is decided by the words around it. `denies` states its absence as a whole ("the heart is
normal in size"), `doubts` its uncertainty ("heart size is at the upper limits of normal"). They match whole words, and
their free words, `(?: \\w+)`, never stand for a negation.

The first fourteen are those of CheXpert (Irvin et al., AAAI 2019).
"""

from dataclasses import dataclass

LUNGS = ("right lung", "left lung")


def _any(*patterns: str) -> str:
    return "(?:" + "|".join(patterns) + ")"


# A gap that stays in one statement: it crosses neither a change of mind, nor another verdict.
_STEP = (
    r"(?:(?!\b(?:but|however|although|though|while|whereas|despite|with|without|no|not|nor|normal|unremarkable|"
    r"enlarged|"
    r"there|which|clear|intact|are seen|is seen|is noted|are noted)\b)[^.;])"
)


def _near(first: str, then: str, reach: int = 60) -> str:
    """`first`, and `then` within the same statement."""
    return rf"\b{first}\b{_STEP}{{0,{reach}}}?\b{then}\b"


_NORMAL = _any(
    "normal", "normally", "unremarkable", "within normal", "in normal",
    "not (?:\\w+ ){0,2}(?:enlarged|widened|dilated)",
    "non-?enlarged", "no (?:\\w+ ){0,2}enlarge\\w*", "not (?:increased|prominent)", "negative", "grossly clear",
    "within limits", "of normal", "without (?:\\w+ )?(?:enlargement|abnormality)", "wnl",
)  # fmt: skip
_BORDERLINE = _any(
    "upper limits?", "upper normal", "top[- ]normal", "top limits? of normal", "borderline", "high[- ]normal",
    "mildly prominent", "at the limits? of normal", "prominent", "accentuated",
)  # fmt: skip
_LARGE = _any("enlarged", "enlargement", "large", "increased in size", "increased size", "big", "dilated", "generous")
_HEART = _any(
    "hearts?", "(?:cardiac|cardio-?pericardial|cardio-?mediastinal)(?: and mediastinal| mediastinal)? "
    "(?:silhouettes?|size|contours?|shadows?|borders?|outlines?|structures|diameter)", "cardiomediastinum",
    "cardiac and mediastinal (?:silhouettes?|contours?|structures)",
)  # fmt: skip
_HEART_ALONE = _any("hearts?", "cardiac (?:silhouette|size|shadow|contour|diameter)", "cardiopericardial silhouette")
_MEDIASTINUM = _any(
    "mediastinum", "mediastinal",
    "(?:cardio-?mediastinal|heart and mediastinal|cardiac and mediastinal|cardiac mediastinal)",
    "cardiomediastinum",
)  # fmt: skip
_BONES = _any(
    "bon(?:y|es?)(?: structures?| thorax)?", "osseous(?: structures?)?", "skelet\\w+(?: structures?)?", "ribs?",
    "rib cage", "thoracic cage", "bony thorax", "visualized bones",
)  # fmt: skip
_VESSELS = _any(
    "vascularity", "vasculature", "pulmonary vessels", "vascular pattern", "vascular markings", "pulmonary vascular\\w*"
)
_DEVICE = _any(
    "tubes?", "catheters?", "picc", "port(?:-?a-?cath)?s?", "porta-?cath", "infus-?a-?port", "med-?iports?",
    r"(?:central|venous|picc|arterial|subclavian|jugular|ij|dialysis|support|monitoring|indwelling|iv|"
    r"femoral)(?: \w+)?"
    r" lines?", "lines? (?:and|or) tubes?", "pacemakers?", "pacers?", "pacing", "aicds?", "icds?", "defibrillators?",
    "leads?", "stents?", "stimulators?",
    "generators?", r"tips?(?: \w+){0,6} (?:svc|superior vena cava|cavo-?atrial|caval|atrium|brachiocephalic)",
    "prosthe(?:sis|tic|ses) valves?", "(?:valve|valvular) (?:prosthesis|replacement)",
    "prosthetic (?:\\w+ )?valves?", "valve ring",
    "tracheostomy", "hickman", "swan[- ]ganz", "endotracheal", "nasogastric", "orogastric", "dobh?off", "ett?",
    "ngt?",
    "ivc filter", "filter", "balloon pump", "iabp", "life support", "monitoring devices?", "drains?", "pigtail",
    "shunt",
    "loop recorder", "support devices?", "lvad", "impella", "ecmo", "devices?", "pulse generator", "battery pack",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One row of the table.

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
    Finding("no finding", ()),  # derived from all others, see `findings.label_report`
    Finding(
        "enlarged cardiomediastinum", ("mediastinum",),
        says=(
            r"(?:widened|widening of the|enlarged|enlargement of the|prominen\w+(?: of the)?|abnormal|"
            r"fullness of the)"
            r"(?: (?!and\b)\w+){0,2} (?:cardio-?mediastin\w+|mediastin\w+)(?! (?:and hilar )?(?:lymph|aden|node))",
            _near("(?:cardio-?)?mediastin(?:um|al (?:silhouettes?|contours?|structures|shadow|width))",
                  "(?:widened|enlarged|prominent|prominence|wide|full(?:ness)?)", 60),
            r"mediastinal (?:widening|enlargement|prominence|fullness)",
        ),
        denies=(
            _near(_MEDIASTINUM, _NORMAL), _near("(?:normal|unremarkable)", _any(_MEDIASTINUM), 40),
            r"no (?:\w+ ){0,2}mediastinal (?:widening|abnormality|enlargement|pathology)",
            r"mediastin(?:um|al (?:contours?|silhouette|structures))(?: \w+){0,2} (?:is|are) (?:clear|midline|intact)",
            r"(?:normal|unremarkable) (?:\w+ ){0,3}cardio-?mediastin\w+",
        ),
        doubts=(_near(_MEDIASTINUM, "borderline", 40), r"borderline (?:\w+ ){0,2}mediastin\w+"),
    ),
    Finding(
        "cardiomegaly", ("heart",),
        says=(
            r"cardiomegaly", r"cardiac (?:\w+ )?enlargement",
            r"enlargement of (?:the |his |her )?(?:heart|cardiac\w*)",
            r"enlarged(?: \w+){0,2} (?:heart|cardiac|cardio-?mediastinal|cardiopericardial)",
            _near(_HEART, _any(_LARGE, "(?:moderately|mildly|markedly|severely|slightly) prominent"), 45),
            r"enlarge\w* (?:of )?(?:the )?(?:cardiac|heart|cardio-?mediastinal)",
            r"(?:left|right|bi)-? ?(?:ventricular|atrial) (?:\w+ )?(?:enlargement|hypertrophy|dilat\w+|prominence)",
            r"increased? (?:\w+ )?(?:heart|cardiac) size",
        ),
        denies=(
            _near(_HEART, _NORMAL), r"normal[- ]sized? (?:heart|cardiac)",
            r"(?:normal|unremarkable)(?: in)?(?: \w+){0,3}? (?:hearts?|cardiac|cardio-?mediastinal|"
            r"cardio-?pericardial|cardiomediastinum)\b",
            r"(?:heart|cardiac)(?: \w+){0,3} (?:is|are|appears?) (?:small|clear)",
        ),
        doubts=(
            _near(_HEART_ALONE, _BORDERLINE, 45),
            r"(?:borderline|upper limits? of normal|top[- ]normal|high[- ]normal|prominent)(?: in| for)?"
            r"(?: \w+){0,2} (?:hearts?|cardiac|cardiomegaly|cardio-?mediastinal)",
            _near("cardiomegaly", "borderline", 20),
            _near("(?:cardio-?mediastinal silhouette)",
            "(?:upper limits?|top[- ]normal|borderline|high[- ]normal|prominent)", 45),
        ),
    ),
    Finding(
        "lung opacity", LUNGS,
        says=(
            r"opaci\w+", r"infiltrat\w+",
            r"(?<!retrosternal )(?:air|alveolar)[- ]?space (?:disease|process|change|abnormalit\w+)s?",
            r"(?:ill[- ]defined|increased|hazy|patchy|focal|streaky|basilar|basal|vague|subtle|linear|"
            r"retrocardiac|lower|upper|"
            r"middle|lung|lobe|alveolar|ground[- ]glass|pulmonary|rounded|airspace)(?: \w+)? densit(?:y|ies)",
            r"densit(?:y|ies)(?: \w+){0,4} (?:lung|lobe|base|lingula|hil\w+|apex|hemithorax|costophrenic)",
            r"haz(?:e|iness|y)", r"ground[- ]glass", r"air bronchograms?",
            r"parenchymal (?:disease|process|abnormalit\w+)",
        ),
        denies=(
            _near(_any("lungs?", "lung fields?", "lung zones?", "both lungs"), _any("clear(?! of)",
            "clear\\b(?=\\.|$)"), 50),
            r"clear (?:\w+ ){0,2}lungs?", r"lungs?(?: fields?)?(?: are| is)? clear(?! of)",
            r"lungs?[^.;:]{0,50} but (?:\w+ )?clear(?! of)",
        ),
    ),
    Finding(
        "lung lesion", LUNGS,
        says=(
            r"(?:lung|pulmonary|parenchymal|cavit\w+|suspicious|spiculated|lobe|dominant)(?: \w+)? lesions?",
            r"(?:micro)?nodul\w+", r"mass(?:es)?(?:-?like)?",
            r"lesions? (?:in|within|of|at) (?:the )?(?:\w+ ){0,3}(?:lung|lobe|base|apex|hilum|lingula)",
            r"neoplasm\w*", r"neoplastic", r"malignan\w+", r"metasta\w+", r"carcinoma", r"tumou?rs?",
            r"cavit(?:y|ary|ation|ies)\w*",
            r"(?:lung|pulmonary|bronchogenic) cancer", r"cysts?\b(?! wall)",
        ),
    ),
    Finding(
        "edema", LUNGS,
        says=(r"(?<!soft tissue )o?edema\w*", r"(?:congestive )?(?:heart|cardiac) failure", r"chf",
        r"(?:volume|fluid) overload",
              r"cardiac decompensation", r"kerley(?:'s)?(?: b| a)? lines?"),
    ),
    Finding("consolidation", LUNGS, says=(r"consolidat\w+",), denies=(
        _near(_any("lungs?", "lung fields?", "lung zones?", "both lungs"), _any("clear(?! of)"), 50),
        r"clear (?:\w+ ){0,2}lungs?", r"lungs?(?: fields?)?(?: are| is)? clear(?! of)",
        r"lungs?[^.;:]{0,50} but (?:\w+ )?clear(?! of)",
    )),
    Finding(
        "pneumonia", LUNGS,
        says=(r"(?:broncho)?pneumoni(?:a|as|c)\b", r"pna", r"pneumonitis",
        r"(?<!granulomatous )(?<!prior )(?<!previous )(?<!old )(?<!remote )infect\w+"),
    ),
    Finding(
        "atelectasis", LUNGS,
        says=(r"atelecta\w+", r"collapsed?(?! of (?:the )?vertebra)", r"volume loss", r"loss of (?:lung )?volume"),
        elsewhere=("diaphragm",),
    ),
    Finding("pneumothorax", LUNGS, says=(r"(?:hydro|hemo)?-?pneumothora(?:x|ces|xes)", r"ptx", r"pneumothorax")),
    Finding(
        "pleural effusion", ("costophrenic angles",),
        says=(
            r"(?<!pericardial )effusions?", r"pleural (?:fluid|collections?)", r"hydro(?:pneumo)?thorax",
            r"hemothorax",
            r"fluid (?:in|within|along) (?:the )?(?:\w+ ){0,2}(?:fissures?|pleural)", r"fluid collections?",
            r"empyema",
        ),
        denies=(
            r"(?:costophrenic|cp) (?:angles?|sulc\w+|recess\w*|sulcus)(?: \w+){0,3} (?:clear|sharp|unremarkable|"
            r"preserved|"
            r"well[- ]defined|normal|intact|maintained|not blunted)",
            r"(?:clear|sharp|normal)(?: \w+)? (?:costophrenic|cp) (?:angles?|sulc\w+)",
            r"pleural (?:spaces?|surfaces?|margins?)(?: \w+){0,3} (?:clear|unremarkable|normal|intact)",
            r"no (?:\w+ ){0,3}blunting",
        ),
        doubts=(
            r"blunt\w*(?: \w+){0,4} (?:costophrenic|cp|angles?|sulc\w+)",
            r"(?:costophrenic|cp|angles?|sulc\w+)(?: \w+){0,4} blunt\w*", r"costophrenic blunting",
        ),
        elsewhere=LUNGS,
    ),
    Finding(
        "pleural other", LUNGS,
        says=(
            r"pleural[- ](?:\w+ ){0,3}?(?:thickening|plaques?|scar\w*|calcifi\w+|based|disease|reaction|changes?|"
            r"fibrosis)",
            r"(?:thicken\w+|plaques?|scar\w*|calcifi\w+)(?: \w+){0,3} pleura\w*", r"fibrothorax",
            r"apical (?:pleural )?cap(?:ping)?", r"fissural thickening", r"thicken\w+ of (?:the )?(?:\w+ )?fissures?",
            r"pleural parenchymal", r"pleuro-?parenchymal",
        ),
        elsewhere=("costophrenic angles", "diaphragm"),
    ),
    Finding(
        "fracture", (*LUNGS, "spine"),
        says=(
            r"(?<!catheter )(?<!wire )fractur\w+", r"compression deformit\w+",
            r"compression of (?:the )?(?:\w+ ){0,2}vertebra\w*",
            r"vertebral (?:body )?(?:collapse|compression)", r"broken (?:\w+ ){0,3}(?:ribs?|bones?|clavicle)",
        ),
        denies=(
            _near(_BONES, _any("normal", "unremarkable", "intact", "within normal", "negative"), 50),
            r"no (?:\w+ ){0,5}?(?:bony|osseous|bone|skeletal|rib)(?: \w+)? (?:abnormalit\w+|lesions?|findings?|"
            r"injur\w+|pathology|destruction|process)",
            r"(?:intact|unremarkable|normal)(?: \w+){0,2} (?:bon(?:y|es?)|osseous|skelet\w+|ribs|thoracic cage)",
            r"no (?:\w+ ){0,3}abnormalit\w+ (?:of|in) (?:the )?(?:bones?|bony|osseous|skelet\w+)",
        ),
    ),
    Finding(
        "support devices", ("mediastinum",),
        says=(_DEVICE,),
        elsewhere=("heart", *LUNGS),
    ),
    Finding(
        "nodule", LUNGS,
        says=(r"(?:micro)?nodul(?:es?|arit\w+)", r"fibro-?nodular"), elsewhere=("mediastinum",),
    ),
    Finding("mass", LUNGS, says=(r"mass(?:es)?\b", r"mass-?like"), elsewhere=("mediastinum",)),
    Finding(
        "granuloma", LUNGS,
        says=(
            r"granuloma\w*", r"histoplasmosis",
        ),
        elsewhere=("mediastinum",),
    ),
    Finding(
        "emphysema or hyperinflation", (*LUNGS, "diaphragm"),
        says=(
            r"(?<!subcutaneous )(?<!soft tissue )emphysema\w*",
            r"hyper-?\s?(?:inflat|expan|aerat|lucen|distend|disten|extend)\w+",
            r"over-?\s?(?:inflat|expan|aerat|disten)\w+", r"chronic obstructive", r"copd",
            r"obstructive (?:pulmonary|lung|airways?)",
            r"flatten\w+(?: \w+){0,5} (?:hemi-?)?diaphragm\w*", r"(?:hemi-?)?diaphragm\w*(?: \w+){0,4} flatten\w+",
            r"bull(?:a|ae|ous)\b", r"blebs?\b", r"air[- ]trapping",
            r"increased (?:\w+ )?(?:retrosternal|lung volumes?)",
            r"large lung volumes?", r"lung volumes? (?:\w+ ){0,3}(?:large|increased)", r"barrel[- ](?:shaped )?chest",
            r"increased (?:ap|a-p|anterior\w*) diameter",
        ),
    ),
    Finding(
        "low lung volumes", LUNGS,
        says=(
            r"low (?:\w+ ){0,2}(?:lung |inspiratory )?volumes?",
            r"lung volumes?(?: \w+){0,4} (?:low|decreased|diminished|reduced|small)",
            r"(?:decreas(?:ed|ing)|diminished|reduced|small|shallow|poor|limited|suboptimal|incomplete|low|"
            r"hypo-?ventilatory|submaximal|expiratory)"
            r"(?: \w+){0,2} (?:inspirat\w+|lung volumes?|lung expansion|aeration|ventilation|effort|inflation|depth)",
            r"(?:hypo|under)-?\s?(?:inflat|expan|aerat|ventilat)\w+",
            r"inspirat\w+(?: \w+){0,4} (?:low|poor|shallow|suboptimal|limited)",
            r"low inspir\w+", r"poorly (?:inflated|expanded)", r"expiratory (?:film|view|phase|exam\w*|radiograph)",
        ),
        denies=(
            _near("lungs?", _any("well[- ](?:inflated|expanded|aerated)",
            "(?:normally|adequately|fully|appropriately|symmetrically) (?:inflated|expanded|aerated)"), 40),
            r"lung volumes?(?: \w+){0,3} (?:normal|adequate)", r"normal lung volumes?",
            r"well[- ](?:expanded|inflated|aerated)",
            r"(?:good|normal|adequate) (?:inspirat\w+|lung (?:volumes?|expansion|inflation))",
        ),
    ),
    Finding(
        "scarring or fibrosis", LUNGS,
        says=(
            r"scar\w*", r"(?<!cystic )fibro(?:sis|tic|nodular|calcific)\w*", r"cicatri\w+", r"honeycomb\w*",
        ),
        elsewhere=("costophrenic angles", "diaphragm"),
    ),
    Finding(
        "prominent lung markings", LUNGS,
        says=(
            r"(?:prominen\w+|increased|coarse\w*|accentuat\w+|exaggerat\w+|crowd\w+|thicken\w+|abnormal|chronic|"
            r"diffuse|mild)"
            r"(?: \w+){0,5}? (?:interstiti\w+|broncho-?vascular|bronchial|lung|reticular|vascular|perihilar|"
            r"pulmonary)(?: \w+){0,2}? (?:markings|pattern)",
            r"(?:prominen\w+|increased|coarse\w*|accentuat\w+|crowd\w+) (?:markings|interstitium)",
            r"(?:interstiti\w+|broncho-?vascular|reticular|peribronchial)(?: \w+){0,3}? (?:markings?|patterns?|"
            r"prominence|thickening|changes?|crowding|coarsening|disease|abnormalit\w+)",
            r"markings(?: \w+){0,4} (?:prominent|increased|coarse\w*|accentuated|crowded)",
            r"(?:prominence|coarsening) of (?:the )?(?:\w+ ){0,4}(?:markings|interstitium)",
            r"crowding of (?:the )?(?:\w+ ){0,4}(?:markings|structures|interstitium|vascul\w+|broncho-?vascul\w+)",
            r"interstitial (?:lung )?disease", r"(?:septal|kerley) lines?",
            r"reticul(?:ar|onodular|ation)\w*", r"(?:peri-?)?bronchial (?:wall )?(?:thickening|cuffing)",
            r"bronchovascular crowding",
        ),
        denies=(r"(?:interstitial|lung|bronchovascular) markings(?: \w+){0,3} (?:normal|unremarkable)",),
    ),
    Finding(
        "vascular congestion", (*LUNGS, "heart"),
        says=(
            r"(?:vascul\w+|venous|pulmonary|hilar|perihilar|central)(?: \w+){0,2} (?:congest\w+|engorge\w+|"
            r"distention|redistribution)",
            r"vascular prominence", r"indistinct (?:\w+ )?vascul\w+(?: margin\w*)?",
            r"vasculature (?:\w+ ){0,2}indistinct", r"prominence of (?:the )?(?:\w+ ){0,2}(?:vascul\w+|vessels)",
            r"congest(?:ion|ed)\b", r"engorge\w+", r"cephali[sz]ation", r"pulmonary venous hypertension",
            r"(?:prominen\w+|engorge\w+|increased|dilated|enlarged)(?: of)?(?: the)?(?: \w+){0,2} (?:pulmonary |"
            r"central |hilar )?(?:vascul\w+|vessels?|veins)",
            _near("(?:pulmonary |central )?(?:vascularity|vasculature|vessels)",
            "(?:congested|engorged|prominent|increased|cephalized|distended|accentuated)", 45),
        ),
        denies=(
            _near(_VESSELS, _any(_NORMAL, "clear"), 50),
            r"(?:normal|unremarkable)(?: \w+){0,2} (?:vascularity|vasculature|vascular markings|pulmonary vessels|"
            r"vascular pattern)",
        ),
    ),
    Finding(
        "degenerative change of the spine", ("spine",),
        says=(
            r"degenerat\w+(?! (?:(?!spine|spinal|thoracic)\w+ ){0,6}(?:shoulders?|acromio\w*|ac joints?|"
            r"glenohumeral|humer\w+|clavicul\w*))",
            r"(?:osteophyt|spondyl)\w*", r"dis[ck](?: space)? (?:narrowing|disease|degeneration|height loss)",
            r"spurring", r"spurs?\b",
            r"hypertrophic (?:\w+ ){0,3}(?:change|spur|lipping|osteo)\w*", r"dish\b",
            r"diffuse idiopathic skeletal hyperostosis",
            r"osteoarthri\w+(?! (?:\w+ ){0,5}(?:shoulders?|acromio\w*|ac joints?))",
            r"endplate (?:changes?|sclerosis|irregular\w+)",
            r"hypertrophic changes?", r"arthritic (?:\w+ ){0,2}change\w*(?! (?:\w+ ){0,3}shoulder)",
            r"syndesmophyt\w+",
            r"arthropathy", r"bony spurring",
        ),
        denies=(_near("(?:thoracic )?spine", "(?:normal|unremarkable)", 30),),
    ),
    Finding(
        "scoliosis", ("spine",),
        says=(
            r"(?:kypho|roto|dextro|levo)?-?scolio\w+", r"(?:dextro|levo)[- ]?(?:curv\w+|convex\w*|rotat\w+)",
            r"(?:s-?shaped|lateral|rightward|leftward|abnormal) curvature",
            r"(?:spinal|spine|thoracolumbar|thoracic|lumbar) curvature",
            r"(?<!kyphotic )curvature of the (?:\w+ )?(?:thoracic |thoracolumbar |lumbar )?spine",
        ),
    ),
    Finding("kyphosis", ("spine",), says=(r"(?:hyper)?kypho(?:sis|tic|scolio\w+)",
    r"exaggerat\w+(?: \w+)? (?:thoracic )?(?:curvature|kyphosis)")),
    Finding("osteopenia", ("spine",), says=(r"osteopeni\w+", r"osteoporo\w+", r"deminerali\w+",
    r"bone(?:s)?(?: \w+){0,2} deminerali\w+",
                                            r"decreased (?:bone|bony|osseous)(?: \w+)? (?:density|mineralization)")),
    Finding(
        "tortuous or atherosclerotic aorta", ("mediastinum",),
        says=(
            r"(?:tortu\w+|ecta\w+|unfold\w+|uncoil\w+|athero\w+|calcif\w+|dilat\w+|prominen\w+|aneurysm\w*|"
            r"elongat\w+|enlarged)(?: \w+){0,6}? aort(?:a|ic)\b"
            r"(?! valv\w+)",
            r"aort(?:a|ic)\b(?! valve)(?:,? \w+){0,6}? (?:tortu\w+|ecta\w+|unfold\w+|uncoil\w+|athero\w+|"
            r"calcif\w+|dilat\w+|aneurysm\w*|elongat\w+|prominen\w+|enlarged)",
            r"athero\w+", r"(?:vascular|arterial|arch) calcif\w+",
            r"tortuous(?: \w+){0,2} (?:vessels?|mediastinal|great vessels|arch|vascul\w+)",
            r"tortu\w+", r"calcified(?: \w+)? (?:arch|great vessels)",
        ),
        denies=(_near("(?:thoracic )?aort(?:a|ic (?:knob|arch|contours?))", "(?:normal|unremarkable)", 40),),
    ),
    Finding(
        "hiatal hernia", ("heart", "diaphragm"),
        says=(r"(?:hiatal|hiatus|diaphragmatic|paraesophageal|esophageal|retrocardiac|morgagni|"
              r"bochdalek)(?: \w+)? herni\w*", r"hernia\w*",
              r"intra-?thoracic stomach", r"herniat\w+ (?:of )?(?:the )?stomach"),
    ),
    Finding(
        "elevated diaphragm", ("diaphragm",),
        says=(
            r"elevat\w+(?: \w+){0,6}? (?:hemi-?)?diaphragm\w*", r"(?:hemi-?)?diaphragm\w*(?: \w+){0,4} elevat\w+",
            r"eventrat\w+", r"(?:hemi-?)?diaphragm\w* (?:\w+ ){0,3}(?:is|are) (?:\w+ )?(?:high|higher)",
        ),
        denies=(
            _near("(?:hemi-?)?diaphragms?", "(?:normal|unremarkable)", 40),
            r"(?:hemi-?)?diaphragms?(?: \w+){0,3} not (?:\w+ )?elevated",
        ),
    ),
    Finding(
        "surgical change", ("mediastinum",),
        says=(
            r"sternotom\w+", r"surgical\w*", r"post-?\s?(?:operative|surgical|op)\b", r"cabg", r"bypass",
            r"clips?\b", r"sutures?", r"stapl\w+",
            r"resect\w+", r"(?:lob|pneumon|mast|thorac|cholecyst|laminect|splen)ectom\w+", r"thoracotom\w+",
            r"wires?\b(?! loop)",
            r"(?:spinal|cervical|lumbar|thoracic|anterior|posterior)(?: \w+)? fusion", r"fusion hardware",
            r"hardware", r"arthroplast\w+", r"reconstruct\w+",
            r"implants?\b", r"orthopedic", r"rods?\b", r"post surgical", r"s/p", r"status post", r"vertebroplasty",
            r"kyphoplasty", r"augmentation",
        ),
        elsewhere=("heart", "spine", *LUNGS),
    ),
    Finding(
        "hilar or mediastinal adenopathy", ("mediastinum",),
        says=(r"(?:lymph)?-?adenopath\w+", r"(?<!calcified )(?:enlarged|prominent)(?: \w+){0,3} (?:lymph )?nodes?",
              r"hil(?:ar|a|um)(?: \w+)? enlargement", r"enlarge\w+(?: of)?(?: the)?(?: \w+){0,2} hil(?:a|um|ar)"),
        doubts=(r"hil(?:ar|a|um)(?: \w+)? (?:prominence|fullness)",
        r"(?:prominen\w+|full\w*)(?: of)?(?: the)?(?: \w+){0,2} hil(?:a|um|ar)"),
    ),
)  # fmt: skip

FINDING_NAMES: tuple[str, ...] = tuple(finding.name for finding in FINDINGS)
CHEXPERT_14: tuple[str, ...] = FINDING_NAMES[:14]
CHEXPERT_5: tuple[str, ...] = ("atelectasis", "cardiomegaly", "consolidation", "edema", "pleural effusion")
_SIDED = {"pleural effusion": ("costophrenic angles",), "lung consolidation": (), "pneumothorax": (), "lung nodule": ()}
FINDING_REGIONS: dict[str, tuple[str, ...]] = {
    finding.name: finding.regions for finding in FINDINGS if finding.regions
} | {f"{side} {name}": (f"{side} lung", *more) for name, more in _SIDED.items() for side in ("right", "left")}
"""Where each finding is to be seen: those of the table, and the sided ones of the phantoms."""
