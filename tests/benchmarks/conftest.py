import pytest
import yaml


@pytest.fixture
def config_file(tiny_training, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tiny_training | {"output": "none"}))
    return file
