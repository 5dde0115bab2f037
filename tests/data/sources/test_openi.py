"""The original download: reports, names, and archives that are fetched from a server on this machine."""

import functools
import http.server
import io
import tarfile
import threading

import pytest

from xr2text.data.sources.openi import ARCHIVES, download_openi, unpack
from xr2text.data.study import DataError

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{uid}"/><pmcId id="{uid}"/>
<MedlineCitation Owner="Indiana University"><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION">Cough</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText><AbstractText Label="IMPRESSION">No disease &amp; no XXXX.
</AbstractText></Abstract></Article></MedlineCitation>
<MeSH><major>Pleural Effusion/left/small</major><major>Nodule</major></MeSH>
{images}</eCitation>"""


@pytest.fixture
def openi(tmp_path, png):
    (tmp_path / "ecgen-radiology").mkdir()
    (tmp_path / "png").mkdir()
    for uid, names in {
        "1": ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"),
        "22": ("CXR22_IM-0840-1001",),
        "3": (),
    }.items():
        images = "".join(f'<parentImage id="{name}"><figureId>F1</figureId></parentImage>' for name in names)
        text = REPORT.format(uid=uid, findings="Small left effusion. XXXX heart.", images=images)
        (tmp_path / "ecgen-radiology" / f"{uid}.xml").write_text(text)
        for name in names:
            (tmp_path / "png" / f"{name}.png").write_bytes(png())
    return tmp_path


def test_the_original_reports_are_read(openi, load_by_id):
    studies = load_by_id("openi", openi)
    assert set(studies) == {"1", "22"}  # the third has no image
    first = studies["1"]
    assert (first.findings, first.impression) == ("Small left effusion.", "")  # de-identified sentences are dropped
    assert first.source_findings[-11:] == "XXXX heart."
    assert [(image.path.name[-8:], image.view) for image in first.images] == [("3001.png", None), ("4001.png", None)]
    assert len(first.frontal_images) == 1 and first.images[0].read().pixels.shape == (80, 70)
    indexed = load_by_id("openi", openi, findings=["nodule", "not in the table"])
    assert indexed["1"].labels == {"nodule": 1, "pleural effusion": 1}


def test_views_come_from_kaggles_table_and_dicom_names_have_no_prefix(openi, load_by_id):
    (openi / "indiana_projections.csv").write_text(
        "uid,filename,projection\n1,1_IM-0001-3001.dcm.png,Lateral\n1,1_IM-0001-4001.dcm.png,Frontal\n"
        "22,22_IM-0840-1001.dcm.png,Frontal\n"
    )
    (openi / "png" / "CXR22_IM-0840-1001.png").rename(openi / "22_IM-0840-1001.dcm")
    for name in ("3001", "4001"):
        (openi / "png" / f"CXR1_1_IM-0001-{name}.png").rename(openi / f"1_IM-0001-{name}.dcm")
    studies = load_by_id("openi", openi)
    assert studies["22"].images[0].view == "frontal"
    assert [(image.path.name, image.view) for image in studies["1"].images] == [
        ("1_IM-0001-4001.dcm", "frontal"), ("1_IM-0001-3001.dcm", "lateral"),
    ]  # fmt: skip


def test_what_is_missing_is_named(openi, load, tmp_path_factory):
    (openi / "ecgen-radiology" / "3.xml").write_text("<eCitation>")
    with pytest.raises(DataError, match=r"3\.xml is not valid XML"):
        load("openi", openi)
    with pytest.raises(DataError, match=r"NLMCXR_reports\.tgz"):
        load("openi", tmp_path_factory.mktemp("empty"))


# Download -------------------------------------------------------------------------------------------------------------


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as opened:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            opened.addfile(about, io.BytesIO(content))
    return out.getvalue()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """The folder of a server, its address, and what it was asked for."""
    (tmp_path / "served").mkdir()
    QuietHandler.asked = []
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "served"))
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield tmp_path / "served", f"http://127.0.0.1:{running.server_port}", QuietHandler.asked
    running.shutdown()
    running.server_close()


def test_archives_are_fetched_and_unpacked_once(server, tmp_path):
    folder, address, asked = server
    (folder / "NLMCXR_reports.tgz").write_bytes(archive({"ecgen-radiology/1.xml": b"<a/>"}))
    (folder / "NLMCXR_png.tgz").write_bytes(archive({f"CXR{number}.png": b"png" * number for number in range(9)}))
    root = tmp_path / "root"
    download_openi(root, address, progress=False)
    assert (root / "ecgen-radiology" / "1.xml").read_bytes() == b"<a/>"
    assert sorted(path.name for path in root.iterdir()) == sorted([*ARCHIVES, *ARCHIVES.values()])
    # Stopped while it unpacked: the archive that is there is unpacked again.
    (root / "png").rename(root / ".png.draft")
    (root / ".png.draft" / "CXR5.png").write_bytes(b"half")
    download_openi(root, address, progress=False)
    assert (root / "png" / "CXR5.png").read_bytes() == b"png" * 5 and not (root / ".png.draft").exists()
    assert asked == ["/NLMCXR_reports.tgz", "/NLMCXR_png.tgz"]


def test_a_server_that_has_nothing_is_told_of(server, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(DataError, match=r"NLMCXR_reports\.tgz could not be fetched: 404"):
        download_openi(tmp_path / "root", server[1], progress=False)
    assert not (tmp_path / "root" / "NLMCXR_reports.tgz").exists()


def test_a_damaged_archive_and_one_that_leads_elsewhere_are_refused(tmp_path):
    path = tmp_path / "a.tgz"
    whole = archive({f"{number}.png": bytes(range(256)) * 90 for number in range(5)})
    for content in (whole[:-30], whole[:200], b"nothing of the kind", archive({"../out.png": b"x"})):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.tgz is damaged"):
            unpack(path, tmp_path / "out")
        assert not (tmp_path / "out").exists() and not (tmp_path / "out.png").exists()
