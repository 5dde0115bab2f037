import cv2

from xr2text.config import DataConfig
from xr2text.data.page import draw_page
from xr2text.data.sources import load_studies


def test_a_page_of_studies_is_drawn_also_where_an_image_is_damaged(tree, tmp_path):
    splits = load_studies(DataConfig(source="mimic_cxr", root=str(tree)))
    splits["val"][0].images[0].path.write_bytes(b"")
    draw_page(splits, tmp_path / "page.png")
    page = cv2.imread(str(tmp_path / "page.png"))
    assert page.shape[:2] == (1380, 1280) and page.std() > 30
