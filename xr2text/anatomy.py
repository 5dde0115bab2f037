"""The seven anatomical regions: the table that the model, the phantoms and the page share.

Sides are the patient's. In a PA or AP view the right lung lies on the left of the image.

Coordinates are fractions of the image's width (x, to the right) and height (y, down). The centres and spreads of the
lungs and the heart are mean and standard deviation of manual masks over 62 radiographs of the JSRT collection; the
other regions are placed from these.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Lobe:
    """One Gaussian of a region's spatial prior: centre (x, y) and standard deviation (x, y), in image fractions."""

    centre: tuple[float, float]
    spread: tuple[float, float]


@dataclass(frozen=True)
class Region:
    """An anatomical region.

    Attributes:
        name: the field's name, as shown and exported.
        lobes: the Gaussians of the spatial prior, one or two.
        colour: sRGB hex of its overlay (Okabe and Ito's palette, which colour-blind readers can tell apart).
        vocabulary: lower-case words by which reports speak of the region.
    """

    name: str
    lobes: tuple[Lobe, ...]
    colour: str
    vocabulary: tuple[str, ...]

    @property
    def rgb(self) -> tuple[int, int, int]:
        return tuple(int(self.colour[i : i + 2], 16) for i in (1, 3, 5))


REGIONS: tuple[Region, ...] = (
    Region(
        "right lung", (Lobe((0.28, 0.42), (0.09, 0.19)),), "#56B4E9",
        ("right lung", "right upper lobe", "right middle lobe", "right lower lobe", "right base", "right apex"),
    ),
    Region(
        "left lung", (Lobe((0.75, 0.41), (0.09, 0.19)),), "#009E73",
        ("left lung", "left upper lobe", "lingula", "left lower lobe", "left base", "left apex"),
    ),
    Region(
        "heart", (Lobe((0.57, 0.62), (0.10, 0.10)),), "#D55E00",
        ("heart", "cardiac", "cardiomegaly", "cardiomediastinal", "ventricular", "atrial"),
    ),
    Region(
        "mediastinum", (Lobe((0.52, 0.33), (0.06, 0.13)),), "#CC79A7",
        ("mediastinum", "mediastinal", "hilar", "hilum", "hila", "aorta", "aortic", "trachea"),
    ),
    Region(
        "spine", (Lobe((0.515, 0.50), (0.035, 0.26)),), "#F0E442",
        ("spine", "thoracic spine", "vertebra", "vertebral", "scoliosis", "osteophytes"),
    ),
    Region(
        "diaphragm", (Lobe((0.515, 0.80), (0.22, 0.05)),), "#0072B2",
        ("diaphragm", "hemidiaphragm", "hemidiaphragms", "subdiaphragmatic"),
    ),
    Region(
        "costophrenic angles", (Lobe((0.14, 0.74), (0.05, 0.06)), Lobe((0.88, 0.73), (0.05, 0.06))), "#E69F00",
        ("costophrenic", "pleural effusion", "sulcus", "blunting"),
    ),
)  # fmt: skip

REGION_NAMES: tuple[str, ...] = tuple(region.name for region in REGIONS)
