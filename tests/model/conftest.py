import pytest
import torch


@pytest.fixture(scope="session")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of the tiny model's size, and their places on the canvas."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    return images, torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.1, 0.0, 0.9, 1.0]])
