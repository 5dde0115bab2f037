import tracemalloc
import warnings
from contextlib import contextmanager

import pytest
from PIL import Image


@pytest.fixture
def little_memory():
    """A context in which Python may take 40 MiB at most."""

    @contextmanager
    def measured():
        tracemalloc.start()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                yield
            assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
        finally:
            tracemalloc.stop()

    return measured
