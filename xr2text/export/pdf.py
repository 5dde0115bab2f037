"""A report as a PDF, by fpdf2: both sections, the picture of the regions, and the warnings."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from fpdf import FPDF
from fpdf.enums import XPos, YPos
from PIL import Image

from xr2text.export.text import NOT_WRITTEN, NOTICE, origin, unknown
from xr2text.inference.overlay import make_canvas, paint

if TYPE_CHECKING:
    from xr2text.inference.report import Report

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # DejaVu, which has the letters of most languages
GREY = 90
PICTURE = 78  # mm wide


def report_pdf(report: "Report") -> bytes:
    """The report as a PDF of A4 pages, with today's date."""
    page = FPDF(format="A4")
    for style, file in (("", "DejaVuSans.ttf"), ("B", "DejaVuSans-Bold.ttf")):
        page.add_font("DejaVu", style, FONTS / file)
    page.set_title("Chest radiograph: report")
    page.set_creator(report.model)
    page.set_lang("en")
    page.set_auto_page_break(True, margin=18)
    page.add_page()

    def write(text: str, size: float = 10.5, bold: bool = False, grey: int = 0, gap: float = 2) -> None:
        page.set_font("DejaVu", "B" if bold else "", size)
        page.set_text_color(grey)
        page.multi_cell(0, size * 0.5, text, new_x=XPos.LMARGIN, new_y=YPos.NEXT, align="L")
        page.ln(gap)

    write("Chest radiograph: report", 16, bold=True, gap=1)
    write(f"{origin(report)} {date.today().isoformat()}", 9, grey=GREY)
    write(NOTICE, 9, bold=True, gap=3)
    picture = Image.fromarray(paint(make_canvas(report)))
    height = PICTURE * picture.height / picture.width
    page.image(picture, x=(page.w - PICTURE) / 2, w=PICTURE, h=height, alt_text="The radiograph with its seven regions")
    write("The seven regions of the model's attention. Sides are the patient's: right is on the left.", 8, grey=GREY)
    for title, section, whole in (
        ("Findings", "findings", report.findings), ("Impression", "impression", report.impression),
    ):  # fmt: skip
        write(title, 12, bold=True, gap=1)
        write(whole or NOT_WRITTEN)
        for sentence in report.sentences:
            if sentence.section == section and sentence.confidence is not None:
                write(f"– {sentence.text}  [{sentence.region}; {sentence.certainty}]", 8, grey=GREY, gap=0)
        page.ln(3)
    if doubts := (*unknown(report), *report.doubts):
        write("Warnings", 12, bold=True, gap=1)
        for line in doubts:
            write(f"– {line}", 9, gap=0.5)
    return bytes(page.output())
