"""scripts.train_gate and its images."""

import numpy as np

from scripts import gate_images, train_gate
from xr2text.inference.gate import OTHER, Gate


def test_every_image_gives_features_and_a_label(monkeypatch):
    images = [gate_images.GateImage("noise", OTHER, pixels) for pixels in np.random.default_rng(0).random((5, 40, 60))]
    monkeypatch.setattr(train_gate, "fitted_images", lambda folder, random: iter(images))
    monkeypatch.setattr(train_gate, "BATCH", 2)
    gate = Gate()
    features, labels = train_gate.pooled_features(gate, None)
    assert features.shape == (5, gate.width) and labels.tolist() == [OTHER] * 5


def test_an_altered_radiograph_stays_in_range():
    pixels = np.random.default_rng(0).random((60, 48)).astype(np.float32)
    for name in gate_images.ALTERATIONS:
        changed = gate_images.altered(name, pixels)
        assert changed.dtype == np.float32 and 0 <= changed.min() <= changed.max() <= 1
