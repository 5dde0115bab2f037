"""Published scores on the two common data sets, to stand beside the project's.

All on the test split of R2Gen (Chen et al., EMNLP 2020) and, as far as the papers say, under its protocol: the findings
alone, lower-cased, cut to its length and scored by pycocoevalcap. The protocol decides more than the model does, so
these rows may be compared with scores under the protocol `r2gen` only.
"""

DATASET_NAMES = {"iu_xray": "IU X-Ray", "mimic_cxr": "MIMIC-CXR"}
# Authors, title, venue, year and identifier, or what is unknown of these.
SOURCES = {
    "R2Gen": "Zhihong Chen, Yan Song, Tsung-Hui Chang and Xiang Wan, Generating Radiology Reports via Memory-driven "
    "Transformer, EMNLP 2020, arXiv:2010.16056",
    "CMN": "Zhihong Chen, Yaling Shen, Yan Song and Xiang Wan, Cross-modal Memory Networks for Radiology Report "
    "Generation, ACL-IJCNLP 2021, arXiv:2204.13258",
    "METransformer": "Zhanyu Wang, Lingqiao Liu, Lei Wang and Luping Zhou, METransformer: Radiology Report Generation "
    "by Transformer with Multiple Learnable Expert Tokens, CVPR 2023, arXiv:2304.02211",
    "ORGAN": "Wenjun Hou, Kaishuai Xu, Yi Cheng, Wenjie Li and Jiang Liu, ORGAN: Observation-Guided Radiology Report "
    "Generation via Tree Reasoning, ACL 2023, 2023.acl-long.451, arXiv:2306.06466",
    "DART": "Sang-Jun Park, Keun-Soo Heo, Dong-Hee Shin, Young-Han Son, Ji-Hye Oh and Tae-Eui Kam, DART: Disease-aware "
    "Image-Text Alignment and Self-correcting Re-alignment for Trustworthy Radiology Report Generation, CVPR 2025, "
    "arXiv:2504.11786",
    "SCOPE": "as listed in later comparison tables; its authors, title and venue have not been verified",
}
# BLEU-1 to BLEU-4, METEOR and ROUGE-L as fractions, None where unknown; in order of publication.
PUBLISHED: dict[str, dict[str, tuple[float | None, ...]]] = {
    "iu_xray": {
        "R2Gen": (0.470, 0.304, 0.219, 0.165, 0.187, 0.371),
        "CMN": (0.475, 0.309, 0.222, 0.170, 0.191, 0.375),
        "METransformer": (0.483, 0.322, 0.228, 0.172, 0.192, 0.380),
        "ORGAN": (0.510, 0.346, 0.255, 0.195, 0.205, 0.399),
        "DART": (0.486, 0.348, 0.265, 0.208, 0.205, 0.411),
        "SCOPE": (0.483, 0.351, 0.288, 0.249, 0.223, 0.418),
    },
    "mimic_cxr": {
        "R2Gen": (0.353, 0.218, 0.145, 0.103, 0.142, 0.277),
        "CMN": (0.353, 0.218, 0.148, 0.106, 0.142, 0.278),
        "METransformer": (0.386, 0.250, 0.169, 0.124, 0.152, 0.291),
        "ORGAN": (None, None, None, 0.128, None, 0.293),
    },
}
