"""Small copies of the public layouts, in their real shapes."""

import json

import cv2
import numpy as np
import pytest

from xr2text.config import DataConfig
from xr2text.data.sources import load_studies

REPORTS = """uid,MeSH,Problems,image,indication,comparison,findings,impression
1,x,Cardiomegaly;Pleural Effusion,Chest,cough,None.,The heart is normal. The XXXX are clear.,No acute disease.
2,normal,normal,Chest,,,,"1. No effusion. 2. Clear lungs"
3,x,no indexing,Chest,,,Small left effusion.,
4,normal,normal,Chest,,,No image of this one.,None.
"""
PROJECTIONS = """uid,filename,projection
1,1_lat.png,Lateral
1,1_front.png,Frontal
2,2_a.png,Frontal
2,2_b.png,Frontal
3,3_lat.png,Lateral
"""
ANNOTATION = {
    "train": [{"id": "CXR1_IM-1", "uid": "1", "report": "Heart normal.. Lungs clear", "image_path": ["1_front.png"]}],
    "val": [{"id": "CXR2_IM-2", "uid": "2", "report": "No effusion.", "image_path": ["2_a.png", "2_b.png"]}],
    "test": [],
}


@pytest.fixture(scope="session")
def load():
    """Studies by split of a source at a place."""

    def read(source, root, findings=(), **options):
        return load_studies(DataConfig(source=source, root=str(root), **options), findings)

    return read


@pytest.fixture(scope="session")
def load_by_id(load):
    def read(*args, **options):
        return {study.id: study for studies in load(*args, **options).values() for study in studies}

    return read


@pytest.fixture(scope="session")
def png():
    """The bytes of a PNG file of a size."""
    return lambda height=80, width=70: cv2.imencode(".png", np.zeros((height, width), np.uint8))[1].tobytes()


@pytest.fixture
def indiana(tmp_path, png):
    """An Indiana folder in Kaggle's layout and in R2Gen's."""
    (tmp_path / "images").mkdir()
    for line in PROJECTIONS.splitlines()[1:]:
        (tmp_path / "images" / line.split(",")[1]).write_bytes(png())
    (tmp_path / "indiana_reports.csv").write_text(REPORTS)
    (tmp_path / "indiana_projections.csv").write_text(PROJECTIONS)
    (tmp_path / "annotation.json").write_text(json.dumps(ANNOTATION))
    return tmp_path


@pytest.fixture(scope="session")
def annotation():
    return ANNOTATION
