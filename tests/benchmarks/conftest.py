import pytest
import yaml

SETTINGS = {
    "name": "xr2text-test",
    "output": "none",
    "model": {
        "image": {"size": 64},
        "encoder": {"name": "lcnet_050"},
        "haqt": {"width": 32, "global_queries": 2, "region_queries": 2, "heads": 4, "cross_region_layers": 1},
        "decoder": {"vocab_size": 400, "layers": 1, "heads": 4, "feed_forward": 64, "max_positions": 128},
    },
    "data": {"source": "phantom", "phantom_train": 20, "phantom_val": 5, "workers": 0},
    "training": {"epochs": 2, "batch_size": 4},
    "generation": {"num_beams": 1, "max_tokens": 30, "findings_tokens": 20},
}


@pytest.fixture
def config_file(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(SETTINGS))
    return file
