"""The limits on a radiograph's size, and how values become [0, 1]."""

import numpy as np
import pytest

from xr2text.errors import XR2TextError
from xr2text.imaging.radiograph import ImageError, array_to_unit, check_size, percentile_normalize


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((63, 80), "too small for a radiograph"),
        ((9000, 9000), "at most 50 million"),
        ((64, 2000), "too long and thin"),
        ((1300, 300), "too long and thin"),
    ],
)
def test_sizes_that_no_radiograph_has(size, words):
    with pytest.raises(ImageError, match=words):
        check_size(*size)


def test_the_limits_themselves_are_accepted():
    check_size(64, 64)
    check_size(100, 400)
    check_size(10_000, 5_000)


def test_a_refusal_is_shown_as_a_sentence():
    assert issubclass(ImageError, XR2TextError) and issubclass(ImageError, ValueError)


def test_a_container_is_taken_at_its_word_where_its_range_is_used():
    ramp = np.linspace(0, 1, 6400).reshape(80, 80)
    np.testing.assert_allclose(array_to_unit((ramp * 255).astype(np.uint8)), ramp, atol=1 / 255)
    np.testing.assert_allclose(array_to_unit((ramp * 60000).astype(np.uint16)), ramp * 60000 / 65535, atol=1e-4)
    assert array_to_unit((ramp * 4095).astype(np.uint16)).max() == 1  # 12 bits in a container of 16


def test_percentiles_pass_over_dead_pixels_and_padding():
    values = np.linspace(100, 200, 6400, dtype=np.float32).reshape(80, 80)
    dead = values.copy()
    dead[-1, -1] = 60000
    np.testing.assert_allclose(percentile_normalize(dead), percentile_normalize(values), atol=2e-3)
    padded = values.copy()
    padded[:20] = -5000
    normalized = percentile_normalize(padded, padded == -5000)
    assert normalized[20:].min() == 0 and normalized[20:].max() == 1


def test_a_blank_image_becomes_black():
    assert (percentile_normalize(np.full((80, 80), 7, np.float32)) == 0).all()
