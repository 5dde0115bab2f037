"""Labelled images for the gate: those that it is fitted on, and others that it is measured on.

Radiographs come from data/ (iu_xray with R2Gen's split, nih_chest, covid_chest, jsrt_regions, not_chest,
examples). Photographs and drawings come from a folder for fitting and from installed packages for measuring; some
images are drawn here.
"""

import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from xr2text.data.tables import read_table
from xr2text.imaging.radiograph import ImageError
from xr2text.imaging.read import read_radiograph
from xr2text.inference.gate import LATERAL, OTHER, TURNS
from xr2text.phantom.drawing import draw_phantom

DATA = Path("data")
SIDE = 320  # pixels on the longer side of what is turned and varied here
PACKAGES = ("gradio", "sklearn", "matplotlib")  # whose images the gate is measured on
SUFFIXES = (".png", ".jpg", ".jpeg")
NEGATIVES = ("Fake_MONOHR1.dcm", "00017625_000.jpg")  # these files are negatives already

Pixels = np.ndarray  # float32 [H, W] in [0, 1]
Random = np.random.Generator


@dataclass(frozen=True)
class GateImage:
    """An image, its source, and the number of its class in `inference.gate.CLASSES`."""

    source: str
    label: int
    pixels: Pixels


def fitted_images(folder: Path, random: Random) -> Iterator[GateImage]:
    """Args: folder: photographs and drawings."""
    yield from _indiana(True, random)
    yield from _nih_and_phantoms(True, random)
    yield from _many_hospitals(True, random)
    yield from _not_chest(True, random)
    yield from _photographs([folder], True, random)


def measured_images(random: Random) -> Iterator[GateImage]:
    """Images for measuring; none of them is among the fitted ones."""
    yield from _indiana(False, random)
    yield from _nih_and_phantoms(False, random)
    yield from _many_hospitals(False, random)
    yield from _other_sources(random)
    yield from _not_chest(False, random)
    yield from _photographs([Path(importlib.util.find_spec(name).origin).parent for name in PACKAGES], False, random)
    yield from _drawn(random)


def read_small(path: Path) -> Pixels | None:
    """Reads an image, at most SIDE pixels on its longer side; None where it cannot be read."""
    try:
        return _small(read_radiograph(path).pixels)
    except ImageError:
        return None


def _small(pixels: Pixels) -> Pixels:
    scale = min(1.0, SIDE / max(pixels.shape))
    height, width = (max(1, round(scale * side)) for side in pixels.shape)
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _turned(pixels: Pixels, label: int) -> Pixels:
    """Turns or inverts an upright frontal radiograph, as the class with that number requires."""
    pixels = np.rot90(pixels, -(label % TURNS))
    return np.ascontiguousarray(1 - pixels if label >= TURNS else pixels)


def _varied(pixels: Pixels, random: Random) -> Pixels:
    """Varies an image as another hospital might give it: cropped, marked, framed, tilted, blurred, noisy, with another
    contrast."""
    height, width = pixels.shape
    most = random.choice([0.05, 0.12])
    top, bottom = (random.uniform(0, most, 2) * height).astype(int)
    left, right = (random.uniform(0, most, 2) * width).astype(int)
    pixels = np.clip(pixels[top : height - bottom, left : width - right], 0, 1)
    if random.random() < 0.25:
        equalize = cv2.createCLAHE(random.uniform(1, 6), (int(random.integers(2, 9)),) * 2)
        pixels = equalize.apply(np.round(255 * pixels).astype(np.uint8)) / 255
    pixels = pixels ** random.uniform(0.6, 1.6) * random.uniform(0.6, 1.2) + random.uniform(-0.08, 0.12)
    if random.random() < 0.3:
        pixels = _marked(pixels, random)
    if random.random() < 0.3:
        frame = [int(side) for side in random.uniform(0, 0.12, 4) * min(pixels.shape)]
        pixels = cv2.copyMakeBorder(pixels, *frame, cv2.BORDER_CONSTANT, value=float(random.choice([0, 0, 1, 0.5])))
    if random.random() < 0.4:
        height, width = pixels.shape
        tilt = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-8, 8), 1)
        pixels = cv2.warpAffine(pixels, tilt, (width, height))
    if random.random() < 0.2:
        pixels = cv2.GaussianBlur(pixels, (5, 5), 0)
    if random.random() < 0.3:
        pixels = pixels + random.normal(0, random.uniform(0.005, 0.04), pixels.shape)
    return np.clip(pixels, 0, 1).astype(np.float32)


def _marked(pixels: Pixels, random: Random) -> Pixels:
    """Draws one to four marks on an image: tubes and wires across it, or the letters and arrows of a publication."""
    size, pixels = np.array(pixels.shape[::-1]), np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    for _ in range(random.integers(1, 5)):
        ends, shade = random.uniform(0, 1, (2, 2)) * size, int(random.integers(150, 256))
        if random.random() < 0.7:
            bend = ends.mean(0) + random.normal(0, 0.15, 2) * size
            t = np.linspace(0, 1, 20)[:, None]
            curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * bend + t**2 * ends[1]
            cv2.polylines(pixels, [curve.astype(np.int32)], False, shade, int(random.integers(1, 4)), cv2.LINE_AA)
        elif random.random() < 0.5:
            tip = ends[0] + random.normal(0, 0.06, 2) * size
            cv2.arrowedLine(pixels, ends[0].astype(int).tolist(), tip.astype(int).tolist(), shade, 3, tipLength=0.5)
        else:
            text = str(random.choice(["A", "L", "R", "PORTABLE", "SUPINE", "Fig. 2"]))
            cv2.putText(pixels, text, ends[0].astype(int).tolist(), cv2.FONT_HERSHEY_SIMPLEX, 0.6, shade, 2)
    return pixels / 255


def _piece(pixels: Pixels, random: Random) -> Pixels:
    """Cuts a piece out, a third to a half of each side: a piece of a chest is no chest radiograph."""
    height, width = (max(1, int(random.uniform(0.3, 0.5) * side)) for side in pixels.shape)
    top, left = random.integers(pixels.shape[0] - height + 1), random.integers(pixels.shape[1] - width + 1)
    return pixels[top : top + height, left : left + width]


def _frontal(
    source: str, pixels: Pixels, fitted: bool, random: Random, variants: int, upright: int = 1
) -> Iterator[GateImage]:
    """A frontal radiograph upright, for fitting with `upright` varied copies, and in `variants` of the seven other
    orientations."""
    yield GateImage(source, 0, pixels)
    for _ in range(upright if fitted else 0):
        yield GateImage(source, 0, _varied(pixels, random))
    for label in random.choice(np.arange(1, LATERAL), variants, replace=False):
        yield GateImage(source, int(label), _turned(_varied(pixels, random) if fitted else pixels, int(label)))


def _frontal_file(source: str, file: Path, fitted: bool, random: Random, variants: int) -> Iterator[GateImage]:
    if file.name in NEGATIVES:
        yield GateImage(source, TURNS, read_small(file))
    else:
        yield from _frontal(source, read_small(file), fitted, random, variants)


def _not_frontal(source: str, pixels: Pixels, random: Random, label: int = OTHER) -> Iterator[GateImage]:
    """An image as it is, and varied in a random orientation."""
    yield GateImage(source, label, pixels)
    yield GateImage(source, label, _turned(_varied(pixels, random), int(random.integers(LATERAL))))


def _indiana(fitted: bool, random: Random) -> Iterator[GateImage]:
    root = DATA / "iu_xray"
    validation = json.loads((root / "annotation.json").read_text())["val"]
    held_out = {study["id"].split("_")[0].removeprefix("CXR") for study in validation}
    rows = read_table(root / "indiana_projections.csv", ("uid", "filename", "projection")).to_dict("records")
    rows = [row for row in rows if (row["uid"] not in held_out) == fitted]
    for row in tqdm(rows, desc="Indiana"):
        if fitted and random.random() < 0.8:  # or most of the fit would be of one hospital
            continue
        pixels = read_small(root / "images" / row["filename"])
        if row["projection"] == "Frontal":
            yield from _frontal("Indiana", pixels, fitted, random, 2)
        else:
            yield from _not_frontal("Indiana", pixels, random, LATERAL)
        if random.random() < 0.2:
            yield GateImage("pieces of radiographs", OTHER, _piece(pixels, random))


def _nih_and_phantoms(fitted: bool, random: Random) -> Iterator[GateImage]:
    rows = read_table(DATA / "nih_chest" / "labels.csv", ("patient", "image")).to_dict("records")
    rows = [row for row in rows if (int(row["patient"]) % 3 > 0) == fitted]
    for row in rows[::2]:
        file = DATA / "nih_chest" / "images" / row["image"]
        yield from _frontal_file("NIH ChestX-ray14", file, fitted, random, 2)
    for seed in range(60, 140) if fitted else range(30):
        phantom = draw_phantom(seed, 256)
        yield from _frontal("phantoms", phantom.pixels, fitted, random, 2)
        yield from _not_frontal("phantoms", phantom.lateral.pixels, random, LATERAL)


def _many_hospitals(fitted: bool, random: Random) -> Iterator[GateImage]:
    """Portable and supine radiographs with tubes, and images from publications, of some hundred hospitals."""
    source, root = "COVID-19 image data collection", DATA / "covid_chest"
    rows = read_table(root / "films.csv", ("image", "view", "patient")).to_dict("records")
    rows = [row for row in rows if (int(re.sub(r"\D", "", row["patient"])) % 3 > 0) == fitted]
    for row in rows:
        pixels = read_small(root / "images" / row["image"])
        if row["view"] == "L":
            yield from _not_frontal(source, pixels, random, LATERAL)
        else:
            yield from _frontal(source, pixels, fitted, random, 3, upright=4)


def _other_sources(random: Random) -> Iterator[GateImage]:
    """Frontal radiographs of collections that the gate was never fitted on."""
    for source, files in {
        "JSRT (never fitted on)": (DATA / "jsrt_regions" / "images").iterdir(),
        "examples of NIH and RSNA (never fitted on)": [
            *(DATA / "examples").iterdir(), DATA / "dicom" / "cr_chest_monochrome1.dcm",
        ],
    }.items():  # fmt: skip
        for file in sorted(files):
            yield from _frontal_file(source, file, False, random, 2)


def _not_chest(fitted: bool, random: Random) -> Iterator[GateImage]:
    for file in sorted((DATA / "not_chest").iterdir())[1 if fitted else 0 :: 2]:
        if (pixels := read_small(file)) is not None:
            yield from _not_frontal("CT and MR slices", pixels, random)


def _photographs(folders: list[Path], fitted: bool, random: Random) -> Iterator[GateImage]:
    source = "photographs and drawings" if fitted else f"images in {', '.join(PACKAGES)} (never fitted on)"
    for file in sorted(file for folder in folders for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES):
        if (pixels := read_small(file)) is None:
            continue
        yield from _not_frontal(source, pixels, random)
        for _ in range(20 if fitted else 5):
            cut = _varied(_piece(pixels, random), random)
            yield GateImage(source, OTHER, _turned(cut, int(random.integers(LATERAL))))


def _drawn(random: Random) -> Iterator[GateImage]:
    """Blank, noisy, smooth, striped and written images."""
    for _ in range(40):
        height, width = random.integers(100, 320, 2)
        noise = random.random((height, width), dtype=np.float32)
        blobs = cv2.GaussianBlur(noise, (0, 0), float(random.uniform(5, 40)))
        x = np.arange(width, dtype=np.float32)[None] * random.uniform(0.02, 0.5)
        page = np.full((height, width), 255, np.uint8)
        for line in range(20, height, 24):
            cv2.putText(page, "no film " * 6, (8, int(line)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 0)
        blank = np.full((height, width), random.random(), np.float32)
        smooth = (blobs - blobs.min()) / max(float(np.ptp(blobs)), 1e-6)
        for pixels in (blank, noise, smooth, np.repeat(0.5 + 0.5 * np.sin(x), height, 0), page / 255):
            yield GateImage("drawn: blank, noise, blobs, stripes, text (never fitted on)", OTHER,
                            pixels.astype(np.float32))  # fmt: skip


def _bar(pixels: Pixels) -> Pixels:
    pixels = pixels.copy()
    pixels[int(0.35 * len(pixels)) : int(0.55 * len(pixels))] = 1
    return pixels


def _tilted(pixels: Pixels) -> Pixels:
    height, width = pixels.shape
    return cv2.warpAffine(pixels, cv2.getRotationMatrix2D((width / 2, height / 2), 20, 1), (width, height))


def _through_a_hole(pixels: Pixels) -> Pixels:
    y, x = (np.linspace(-0.5, 0.5, side) for side in pixels.shape)
    return pixels * (np.hypot(y[:, None], x[None]) < 0.42)


def _middle(pixels: Pixels) -> Pixels:
    height, width = (side // 6 for side in pixels.shape)
    return pixels[height:-height, width:-width]


# Ways to spoil a frontal radiograph, of which the gate should tell.
ALTERATIONS: dict[str, Callable[[Pixels], Pixels]] = {
    "blurred": lambda pixels: cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape) / 60),
    "noisy": lambda pixels: pixels + np.random.default_rng(2).normal(0, 0.15, pixels.shape),
    "tilted by 20°": _tilted,
    "upper 60 %": lambda pixels: pixels[: int(0.6 * len(pixels))],
    "lower 60 %": lambda pixels: pixels[int(0.4 * len(pixels)) :],
    "one half": lambda pixels: pixels[:, : pixels.shape[1] // 2],
    "middle two thirds": _middle,
    "in a wide black frame": lambda pixels: np.pad(pixels, int(0.35 * max(pixels.shape))),
    "a white bar across": _bar,
    "through a round hole": _through_a_hole,
    "four greys": lambda pixels: np.round(3 * pixels) / 3,
    "twice as wide": lambda pixels: cv2.resize(pixels, (2 * pixels.shape[1], pixels.shape[0])),
    "dark (power 4)": lambda pixels: pixels**4,
    "mirrored": lambda pixels: pixels[:, ::-1],
}


def altered(name: str, pixels: Pixels) -> Pixels:
    """Alters a radiograph in one of the ways of ALTERATIONS."""
    return np.ascontiguousarray(np.clip(ALTERATIONS[name](pixels), 0, 1).astype(np.float32))
