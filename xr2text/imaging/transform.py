"""A radiograph onto the model's square canvas, and maps back to its pixels.

Shapes: H, W height and width of the original; S side of the canvas; h, w patch grid; K regions.

Coordinates are continuous: pixel i covers [i, i + 1), and the centre of the first pixel is 0.5, as in `cv2.resize`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from xr2text.imaging.radiograph import Radiograph

LEAST_CONTRAST = 0.3  # between the 1st and the 99th percentile of a radiograph in [0, 1]


@dataclass(frozen=True)
class Geometry:
    """Where a radiograph lies on the canvas. The aspect ratio is kept and nothing is ever mirrored.

    Attributes:
        height, width: of the original, pixels.
        size: side S of the canvas, pixels.
        left, top: canvas pixels of padding before the image.
        inner_width, inner_height: canvas pixels that the image covers.
    """

    height: int
    width: int
    size: int
    left: int
    top: int
    inner_width: int
    inner_height: int

    @classmethod
    def fit(cls, height: int, width: int, size: int) -> "Geometry":
        """The largest centred placement of [height, width] on a canvas of side `size`."""
        scale = size / max(height, width)
        inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (size - inner_width) // 2, (size - inner_height) // 2
        return cls(height, width, size, left, top, inner_width, inner_height)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The image's place on the canvas as fractions of its side: (left, top, right, bottom)."""
        right, bottom = self.left + self.inner_width, self.top + self.inner_height
        return self.left / self.size, self.top / self.size, right / self.size, bottom / self.size

    def map_to_original(self, maps: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """Maps on the patch grid -> maps on the original's pixels.

        Args:
            maps: [K, h, w] float, laid over the whole canvas.
            size: (height, width) of a resized original to draw on; None for the original itself.

        Returns:
            [K, height, width] float32, bilinear between the centres of the patches that lie in the image; towards its
            edge, where there is padding on the other side, the last patch's value holds.
        """
        out_height, out_width = size or (self.height, self.width)
        grid_height, grid_width = maps.shape[-2:]
        left, top, right, bottom = self.box
        # The affine map from an output pixel's index to a grid cell's index, between pixel centres.
        scale_x, scale_y = (right - left) * grid_width / out_width, (bottom - top) * grid_height / out_height
        offset_x = left * grid_width + 0.5 * scale_x - 0.5
        offset_y = top * grid_height + 0.5 * scale_y - 0.5
        affine = np.array([[scale_x, 0, offset_x], [0, scale_y, offset_y]])
        options = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}

        def warp(grid: np.ndarray) -> np.ndarray:
            grid = np.ascontiguousarray(grid, dtype=np.float32)
            return cv2.warpAffine(grid, affine, (out_width, out_height), **options)

        x = (np.arange(grid_width) + 0.5) / grid_width
        y = (np.arange(grid_height) + 0.5) / grid_height
        inside = np.outer((y >= top) & (y <= bottom), (x >= left) & (x <= right)).astype(np.float32)
        share = np.maximum(warp(inside), 1e-6)
        return np.stack([warp(grid * inside) / share for grid in maps])


def autocontrast(pixels: np.ndarray) -> np.ndarray:
    """Stretches the contrast of a washed-out image [H, W] in [0, 1].

    Where its 1st and 99th percentiles lie closer than LEAST_CONTRAST, they become 0 and 1. Any other stays as it is.
    """
    low, high = np.percentile(pixels, (1, 99))
    if not 0 < high - low < LEAST_CONTRAST:
        return pixels
    return np.clip((pixels - low) / (high - low), 0, 1).astype(pixels.dtype)


def letterbox(pixels: np.ndarray, size: int) -> tuple[np.ndarray, Geometry]:
    """Resizes [H, W] pixels onto a black square canvas [size, size], aspect ratio kept."""
    geometry = Geometry.fit(*pixels.shape, size)
    shrinks = geometry.inner_width < geometry.width
    inner = cv2.resize(
        pixels, (geometry.inner_width, geometry.inner_height),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )  # fmt: skip
    canvas = np.zeros((size, size), dtype=pixels.dtype)
    rows = slice(geometry.top, geometry.top + geometry.inner_height)
    canvas[rows, geometry.left : geometry.left + geometry.inner_width] = inner
    return canvas, geometry


@dataclass(frozen=True)
class ImageTransform:
    """Radiograph -> model input, the same in training, evaluation and use, except that `data.cache` rounds to 8 bits.

    Attributes:
        size: side S of the canvas, pixels.
        mean, std: of the encoder's normalisation, per RGB channel, for values in [0, 1].
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, radiograph: Radiograph) -> tuple[torch.Tensor, Geometry]:
        """Returns ([3, S, S] float32, Geometry)."""
        canvas, geometry = letterbox(autocontrast(radiograph.pixels), self.size)
        return self.normalise(torch.from_numpy(canvas)), geometry

    def normalise(self, canvas: torch.Tensor) -> torch.Tensor:
        """Grey [..., S, S] in [0, 1] -> [..., 3, S, S], the grey repeated and normalised per channel."""
        mean = canvas.new_tensor(self.mean).view(3, 1, 1)
        std = canvas.new_tensor(self.std).view(3, 1, 1)
        return (canvas.unsqueeze(-3) - mean) / std

    def denormalise(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The inverse of `normalise`: [..., 3, S, S] -> grey [..., S, S] in [0, 1]."""
        return (pixel_values[..., 0, :, :] * self.std[0] + self.mean[0]).clamp(0, 1)
