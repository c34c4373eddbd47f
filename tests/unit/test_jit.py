"""A cached kernel is never older than the kernels it calls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from livespt.jit import cache_dir, kernel

CALLEE = "from livespt.jit import kernel\n\n@kernel\ndef inner(x):\n    return x {operation}\n"
CALLER = (
    "from livespt.jit import kernel\nfrom pack.inner_kernels import inner\n\n"
    "@kernel\ndef outer(x):\n    return inner(x)\n"
)
MAIN = "from pack.outer_kernels import outer; print(outer(10.0), outer.stats.cache_hits)"


def run(folder: Path) -> list[str]:
    env = os.environ | {"LIVESPT_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(folder)}
    env.pop("NUMBA_DISABLE_JIT", None)
    out = subprocess.run(
        [sys.executable, "-c", MAIN], env=env, capture_output=True, text=True, check=True
    )
    return out.stdout.split(" ", 1)


def test_an_edited_callee_in_another_file_reaches_its_cached_caller(tmp_path):
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").touch()
    (pack / "outer_kernels.py").write_text(CALLER)
    (pack / "inner_kernels.py").write_text(CALLEE.format(operation="+ 1.0"))
    assert run(tmp_path)[0] == "11.0"
    value, hits = run(tmp_path)
    assert value == "11.0"
    assert "1" in hits  # served from disk, so that the next line means something
    (pack / "inner_kernels.py").write_text(CALLEE.format(operation="* 2.0"))
    assert run(tmp_path)[0] == "20.0"


def test_a_kernel_works_without_a_writable_cache(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("LIVESPT_CACHE_DIR", str(blocked / "below"))
    assert cache_dir() == blocked / "below"

    @kernel
    def twice(x: np.ndarray) -> np.ndarray:
        return 2 * x

    assert twice(np.arange(3.0)).tolist() == [0.0, 2.0, 4.0]
