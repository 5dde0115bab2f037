import numpy as np

from xr2text.imaging.augment import augment


def test_nothing_is_mirrored_or_leaves_the_image():
    """A bright mark at the upper left stays there, and the padding stays black."""
    canvas = np.zeros((64, 64), np.float32)
    canvas[:, 8:56] = 0.3
    canvas[12:22, 14:24] = 1
    box = (8 / 64, 0.0, 56 / 64, 1.0)
    for seed in range(50):
        varied, _ = augment(canvas, box, np.random.default_rng(seed))
        assert varied.min() >= 0 and varied.max() <= 1 and varied.dtype == np.float32
        assert varied[:, :8].max() == 0 and varied[:, 56:].max() == 0
        y, x = np.nonzero(varied > 0.75 * varied.max())
        assert x.mean() < 32 and y.mean() < 32


def test_masks_move_with_the_image():
    canvas = np.zeros((64, 64), np.float32)
    canvas[20:40, 20:40] = 1
    for seed in range(20):
        varied, masks = augment(canvas, (0, 0, 1, 1), np.random.default_rng(seed), canvas[None] > 0)
        bright = varied > varied.max() / 2
        assert masks.dtype == bool and (masks[0] & bright).sum() > 0.85 * (masks[0] | bright).sum()


def test_strength_is_a_fraction_of_the_greatest_changes():
    canvas = np.random.default_rng(0).random((64, 64), np.float32)
    changes = []
    for strength in (0.0, 0.3, 1.0):
        varied = [augment(canvas, (0, 0, 1, 1), np.random.default_rng(seed), None, strength)[0] for seed in range(20)]
        changes.append(np.mean([np.abs(image - canvas).mean() for image in varied]))
    assert changes[0] < 1e-6 < changes[1] < changes[2]
