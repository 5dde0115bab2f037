"""What the page's tests share: files to send, a reporter that writes at once, and the page as it is served."""

import base64
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from dicom_files import dataset, file_bytes
from example_report import make_report
from PIL import Image

from xr2text.inference.confidence import FindingReading, check_set_findings
from xr2text.inference.gate import DoubtfulImageError
from xr2text.inference.reporter import Reporter
from xr2text.phantom.drawing import draw_phantom
from xr2text.ui.examples import Examples
from xr2text.ui.page import build_page


class InstantReporter:
    """Writes the report of `make_report` of every image; where `doubt` is set, of forced ones alone."""

    model_name = "example 0.1.0"
    doubt = ""
    takes_lateral = False

    def __init__(self):
        self.asked = []

    def is_lateral(self, radiograph):
        return radiograph.view == "lateral"

    def report(self, radiograph, lateral=None, force=False, max_time=None, findings=None):
        self.asked.append(radiograph)
        if self.doubt and not force:
            raise DoubtfulImageError(self.doubt)
        readings = (FindingReading("cardiomegaly", 0.7, 0.3, "absent"), FindingReading("nodule", 0.1, 0.5))
        report = make_report(radiograph.pixels.shape, warnings=(self.doubt,) if self.doubt else (), readings=readings)
        sentences = tuple(replace(sentence, confidence=0.9) for sentence in report.sentences)
        return replace(report, radiograph=radiograph, sentences=sentences)

    def rewrite(self, report, findings, max_time=None):
        """The heart's sentence and readings follow; nothing else changes."""
        check_set_findings(findings, ["cardiomegaly", "nodule"])
        enlarged = findings.get("cardiomegaly") == "present"
        text = "The heart is enlarged." if enlarged else "The heart is normal."
        return replace(
            report,
            findings=f"{text} The lungs are clear.",
            sentences=(replace(report.sentences[0], text=text), *report.sentences[1:]),
            finding_readings=tuple(replace(one, set_to=findings.get(one.name)) for one in report.finding_readings),
        )


@pytest.fixture
def reporter():
    return InstantReporter()


@pytest.fixture(scope="session")
def pixels():
    """A phantom, [320, 256] in [0, 1]."""
    return draw_phantom(5, (320, 256), ()).pixels


@pytest.fixture
def png(tmp_path, pixels):
    """A radiograph's file, of a patient's name."""
    path = tmp_path / "phantom_of_jane_doe.png"
    Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def not_an_image(tmp_path):
    path = tmp_path / "bad.png"
    path.write_text("not a picture")
    return path


@pytest.fixture
def make_dicom(tmp_path, pixels):
    """Writes the phantom as a DICOM file without a suffix."""

    def make(name="IM0001", **elements):
        identifiers = {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.2", "SeriesInstanceUID": "1.2.826.0.1.3680043.3"}
        made = dataset(np.round(pixels * 4095).astype(np.uint16), 12, **identifiers | elements)
        (tmp_path / name).write_bytes(file_bytes(made))
        return tmp_path / name

    return make


@pytest.fixture
def saved():
    """The content of a file that the page hands to the browser."""
    return lambda file: base64.b64decode(file["content"])


@pytest.fixture
def decoded():
    """The pixels of a data address."""

    def decode(address):
        assert address.startswith("data:image/png;base64,")
        return np.asarray(Image.open(BytesIO(base64.b64decode(address.split(",")[1]))))

    return decode


@pytest.fixture(scope="module")
def real_reporter(tiny_checkpoint):
    return Reporter.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def page(real_reporter, tmp_path_factory):
    """The page over a tiny model, with its uploads in a folder of the test's own."""
    examples = Examples(tmp_path_factory.mktemp("cache"), "http://127.0.0.1:9/", timeout=0.2)
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("gradio"))
        patch.setenv("GRADIO_TEMP_DIR", folder)
        patch.setattr("gradio.mcp.DEFAULT_TEMP_DIR", folder, raising=False)
        yield build_page(real_reporter, examples)


@pytest.fixture(scope="module")
def address(page):
    """Where the page is served."""
    settings = {"prevent_thread_lock": True, "quiet": True, "share": False, "ssr_mode": False}
    yield page.launch(server_name="127.0.0.1", max_file_size=2**20, **settings)[1]
    page.close()


@pytest.fixture
def uploads(page):
    """What files lie among the uploads."""
    return lambda: [path for path in Path(page.app.uploaded_file_dir).rglob("*") if path.is_file()]
