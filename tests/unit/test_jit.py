"""A cached kernel is never older than the kernels it calls."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import livespt
import livespt_sim
from livespt.jit import cache_dir, code_dir, kernel, kernel_sources

CALLEE = "from livespt.jit import kernel\n\n@kernel\ndef inner(x):\n    return x {operation}\n"
CALLER = (
    "from livespt.jit import kernel\nfrom pack.inner_kernels import inner\n\n"
    "@kernel\ndef outer(x):\n    return inner(x)\n"
)
MAIN = "from pack.outer_kernels import outer; print(outer(10.0), outer.stats.cache_hits)"


COUNT_MAIN = """from pack.outer_kernels import outer
from pack.inner_kernels import inner
print(outer(3), len(inner.signatures))"""
COUNTING = """from livespt.jit import kernel
from pack.inner_kernels import inner

@kernel
def outer(n):
    total = 0
    for k in range(n):
        total = inner(total) + inner(7) - inner(k)
    return total
"""

LOOK = """from livespt.jit import kernel

@kernel
def look(x):
    return x[5]
"""
LOOK_MAIN = """import numpy as np
import pytest
from pack.look_kernels import look
try:
    look(np.zeros(5))
    print("nothing", look.stats.cache_hits)
except IndexError:
    print("refused", look.stats.cache_hits)
"""


def run(folder: Path, main: str = MAIN, **more: str) -> list[str]:
    """Run `main` in a fresh process that finds `folder`/pack and a cache of its own."""
    env = os.environ | {"LIVESPT_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(folder)}
    for name in ("NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"):
        env.pop(name, None)
    env |= more
    out = subprocess.run(
        [sys.executable, "-c", main], env=env, capture_output=True, text=True, check=True
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


def test_an_edit_and_its_undoing_each_get_their_own_code(tmp_path):
    """Two versions that take turns, as two checkouts do, never serve each other."""
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").touch()
    (pack / "outer_kernels.py").write_text(CALLER)
    for operation, expected in 2 * [("+ 1.0", "11.0"), ("* 2.0", "20.0")]:
        (pack / "inner_kernels.py").write_text(CALLEE.format(operation=operation))
        value, hits = run(tmp_path)
        assert value == expected
    assert "1" in hits  # the second time around nothing was compiled


def test_code_without_bounds_checks_is_not_served_to_who_asks_for_them(tmp_path):
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").touch()
    (pack / "look_kernels.py").write_text(LOOK)
    assert run(tmp_path, LOOK_MAIN)[0] == "nothing"
    assert run(tmp_path, LOOK_MAIN, NUMBA_BOUNDSCHECK="1")[0] == "refused"
    value, hits = run(tmp_path, LOOK_MAIN)
    assert value == "nothing"
    assert "1" in hits


def test_a_literal_is_compiled_as_any_integer(tmp_path):
    """A constant, and a variable that begins as one: numba would compile the callee for each."""
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").touch()
    (pack / "outer_kernels.py").write_text(COUNTING)
    (pack / "inner_kernels.py").write_text(CALLEE.format(operation="+ 1"))
    assert run(tmp_path, COUNT_MAIN) == ["21", "1\n"]


def test_an_edited_constant_in_a_plain_module_reaches_the_kernels(tmp_path):
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").touch()
    outer = "from pack.shape import (\n    SIZE,\n)\nfrom livespt.jit import kernel\n\n"
    (pack / "outer_kernels.py").write_text(f"{outer}@kernel\ndef outer(x):\n    return x + SIZE\n")
    for size, expected in ((1.0, "11.0"), (2.0, "12.0")):
        (pack / "shape.py").write_text(f"SIZE = {size}\n")
        assert run(tmp_path)[0] == expected


@pytest.mark.parametrize("package", [livespt, livespt_sim])
def test_the_hash_covers_whatever_a_kernel_can_see(package):
    """Every module of ours that a kernel module has loaded a name from is among the sources."""
    folder = Path(package.__file__).parent
    sources = set(kernel_sources(folder))
    for path in folder.rglob("*kernels.py"):
        assert path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom | ast.Import):
                continue
            names = (
                [node.module] if isinstance(node, ast.ImportFrom) else [n.name for n in node.names]
            )
            for name in names:
                if name and name.startswith("livespt") and name != package.__name__:
                    file = importlib.import_module(name).__file__
                    assert Path(file) in sources or Path(file).name == "__init__.py", (path, name)


def test_folders_that_nobody_used_for_a_month_go(tmp_path):
    old, new, other = tmp_path / ("0" * 16), tmp_path / ("1" * 16), tmp_path / "mine"
    for folder in (old, new, other):
        folder.mkdir()
        os.utime(folder, (0, 0) if folder is not new else None)
    code_dir.cache_clear()
    made = code_dir(Path(livespt.__file__).parent, tmp_path)
    assert made.is_dir()
    assert new.is_dir()
    assert other.is_dir()  # not ours: whatever its age
    assert not old.exists()


def test_a_kernel_works_without_a_writable_cache(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("LIVESPT_CACHE_DIR", str(blocked / "below"))
    assert cache_dir() == blocked / "below"

    @kernel
    def twice(x: np.ndarray) -> np.ndarray:
        return 2 * x

    assert twice(np.arange(3.0)).tolist() == [0.0, 2.0, 4.0]
