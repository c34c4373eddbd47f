"""What every test may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
_WARMING = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where all tests are run, let a second core compile what the later ones need."""
    whole = session.config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if whole and not numba.config.DISABLE_JIT and not session.config.option.collectonly:
        script = Path(__file__).with_name("warm_kernels.py")
        session.config.stash[_WARMING] = subprocess.Popen([sys.executable, str(script)])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave no process behind."""
    if warming := session.config.stash.get(_WARMING, None):
        warming.terminate()
        warming.wait()


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
