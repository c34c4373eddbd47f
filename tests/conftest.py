"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed; a test that needs another makes its own."""
    return np.random.default_rng(20211)


@pytest.fixture
def shared_data() -> Path:
    """Real movies and tracks that lie beside the checkout; the test is skipped without them."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside this checkout")
    return folder
