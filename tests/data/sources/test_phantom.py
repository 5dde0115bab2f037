from xr2text.config import DataConfig
from xr2text.data.sources import load_studies
from xr2text.phantom.text import FINDINGS


def test_phantoms_are_studies_too():
    splits = load_studies(DataConfig(source="phantom", phantoms=12), findings=["cardiomegaly"])
    assert [len(splits[split]) for split in ("train", "val", "test")] == [12, 2, 0]
    study = splits["train"][0]
    assert study.findings and study.impression and study.images[0].read().pixels.shape == (128, 128)
    assert all(set(study.labels) == set(FINDINGS) for study in splits["train"])
    frontal, lateral = study.images[0], study.lateral_image
    assert study.frontal_images == (frontal,) and lateral.read().view == "lateral" and lateral.seed == frontal.seed
    assert frontal.key != lateral.key
    seeds = [study.images[0].seed for studies in splits.values() for study in studies]
    assert len(set(seeds)) == 14
