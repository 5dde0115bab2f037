"""What the tests of the page in a browser share: the running app, the browser and radiographs to drop, as fixtures."""

import numpy as np
import pytest
from dicom_files import dataset, file_bytes
from headless import headless_browser
from page_reader import Page
from PIL import Image
from running_app import running_app

from xr2text.phantom.drawing import draw_phantom


@pytest.fixture(scope="module")
def address(make_tiny, tmp_path_factory):
    """The running app's address."""
    folder = tmp_path_factory.mktemp("app")
    make_tiny(("cardiomegaly", "nodule")).save_pretrained(folder / "checkpoint")
    Page.uploads = folder / "uploads"
    with running_app(folder / "checkpoint", folder) as url:
        yield url
    assert "phantom_of_jane_doe" not in (folder / "log.txt").read_text()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with headless_browser(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(browser, address):
    return Page(browser, address)


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    path = tmp_path_factory.mktemp("radiographs") / "phantom_of_jane_doe.png"
    Image.fromarray(np.round(draw_phantom(5, (320, 256), ()).pixels * 255).astype(np.uint8)).save(path)
    return path


def write_dicom(path, modality):
    """The phantom with white as 0 (MONOCHROME1)."""
    pixels = np.round((1 - draw_phantom(5, (320, 256), ()).pixels) * 4095).astype(np.uint16)
    made = dataset(pixels, 12, Modality=modality, PhotometricInterpretation="MONOCHROME1")
    path.write_bytes(file_bytes(made))
    return path


@pytest.fixture(scope="module")
def dicom(tmp_path_factory):
    """A computed radiograph under a name without a suffix."""
    return write_dicom(tmp_path_factory.mktemp("radiographs") / "IM0001", "CR")
