"""How kernels are compiled, and where the compiled code is kept.

A kernel is a function that takes arrays and NamedTuples and returns arrays, does no I/O and
touches no Python object. Kernels live in modules whose name ends in ``kernels`` and are marked
with `kernel`, which compiles them without the GIL and caches the machine code on disk.

numba keys a cached function by its own file alone, and so goes on serving a caller that was
compiled against a callee since edited in another file. Here one hash over every kernel module
of the package, what those import, and numba's settings names the folder that holds them all: an
edit anywhere starts an empty one, and two versions side by side never meet. Folders that nobody
has used for a month go.

Set ``NUMBA_DISABLE_JIT=1`` to run every kernel as plain Python, ``LIVESPT_CACHE_DIR`` to move
the cache.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import config as settings
from numba.core import types
from numba.core.caching import CompileResultCacheImpl, FunctionCache, UserProvidedCacheLocator
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import NativeLowering
from numpy.typing import NDArray
from platformdirs import user_cache_path

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=np.generic)


def cache_dir() -> Path:
    """Return the folder that holds the compiled kernels (it need not exist yet)."""
    override = os.environ.get("LIVESPT_CACHE_DIR")
    return Path(override) if override else user_cache_path("livespt", appauthor=False) / "kernels"


#: Settings of numba that make other code of the same source.
_SETTINGS = (
    "BOUNDSCHECK",
    "OPT",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
    "ENABLE_AVX",
    "DEBUGINFO_DEFAULT",
)
_IMPORT = re.compile(r"^from (\w[\w.]*) import (\([^)]*\)|[^\n]*)", re.MULTILINE)
_UNUSED_S = 30 * 86400.0


@functools.lru_cache(maxsize=8)
def source_hash(package_dir: Path) -> str:
    """Hash what compiled kernels of `package_dir` depend on.

    That is: every kernel module below it and below this package, what they import from either,
    this module, and numba's settings.
    """
    digest = hashlib.sha256(repr([getattr(settings, name, None) for name in _SETTINGS]).encode())
    for path in kernel_sources(package_dir):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def kernel_sources(package_dir: Path) -> list[Path]:
    """Return this file, all kernel modules, and the modules whose constants and tuples they use."""
    roots = sorted({package_dir, Path(__file__).parent})
    found = [
        Path(__file__),
        *(path for root in roots for path in sorted(root.rglob("*kernels.py"))),
    ]
    seen = set(found)
    for path in found:  # grows on the way
        more = sorted(_imported(path.read_text(encoding="utf-8"), roots) - seen)
        found += more
        seen.update(more)
    return found


def _imported(text: str, roots: list[Path]) -> set[Path]:
    """Return the files of our own packages that a module's text takes names from."""
    files: set[Path] = set()
    for module, names in _IMPORT.findall(text):
        package, *rest = module.split(".")
        for root in roots:
            if root.name != package:
                continue
            base = root.joinpath(*rest)
            plain = re.sub(r" as \w+", "", names)
            below = {base / f"{name}.py" for name in re.findall(r"\w+", plain)}
            below = {path for path in below if path.is_file()}
            own = (base.with_suffix(".py"), base / "__init__.py")
            files |= below or {path for path in own if path.is_file()}
    return files


@functools.lru_cache(maxsize=8)
def code_dir(package_dir: Path, above: Path) -> Path:
    """Return the folder below `above` for what this version of the kernels has made; sweep it.

    Raises
    ------
    OSError
        The folder cannot be made.
    """
    folder = above / source_hash(package_dir)
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    for other in above.iterdir():
        old = re.fullmatch("[0-9a-f]{16}", other.name) and other.is_dir()
        if old and time.time() - other.stat().st_mtime > _UNUSED_S:
            shutil.rmtree(other, ignore_errors=True)
    return folder


class _Locator(UserProvidedCacheLocator):
    """Put the cache below `code_dir`."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        package, _, rest = py_func.__module__.partition(".")
        package_dir = Path(py_file).parents[rest.count(".")]
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno
        self._stamp = source_hash(package_dir)
        self._cache_path = str(code_dir(package_dir, cache_dir()) / package / (rest or package))

    def get_source_stamp(self) -> Any:
        return self._stamp

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator | None:
        try:
            locator = cls(py_func, py_file)
            locator.ensure_cache_path()
        except OSError:
            return None
        return locator


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 (numba reads it as a plain list)


class _Cache(FunctionCache):
    _impl_class = _CacheImpl


class _WideLower(Lower):
    """Lets LLVM use its widest registers, of 512 bits, in each function."""

    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        # past llvmlite's list of names, which knows no attribute that has a value
        set.add(self.function.attributes, '"prefer-vector-width"="512"')
        # what does not fit the registers is put aside on the borders of cache lines, not across
        set.add(self.function.attributes, '"stackrealign"')


@register_pass(mutates_CFG=True, analysis_only=False)
class _WideLowering(NativeLowering):
    _name = "wide_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        return _WideLower


class _WideCompiler(CompilerBase):
    """numba's usual compiler, but for `_WideLower`."""

    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.passes = [
            (_WideLowering if step is NativeLowering else step, why) for step, why in passes.passes
        ]
        passes.finalize()
        return [passes]


#: LLVM holds itself to 256 bits on most processors that have 512, for fear of a slower clock.
#: Measured there (Emerald Rapids), the lanes' passes are a third faster with all of them.
_NARROW: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
_LANES: dict[str, Any] = _NARROW | {"pipeline_class": _WideCompiler}


def kernel(function: F) -> F:
    """Compile `function` with numba (no GIL, numpy's error model) and cache it on disk.

    Where the cache folder cannot be written, the kernel is compiled afresh in each process.
    With ``NUMBA_DISABLE_JIT=1`` the function is returned as it is.
    """
    return _cached(function, numba.njit(nogil=True, error_model="numpy")(function))


def brief_kernel(function: F) -> F:
    """Compile like `kernel`, but keep the GIL: for what takes microseconds a frame.

    Given away, the GIL has to be waited for again, longer than such a kernel takes.
    """
    return _cached(function, numba.njit(error_model="numpy")(function))


def inlined(function: F) -> F:
    """Compile like `kernel`, and have the machine code copied into every kernel that calls it.

    For the small steps of a recursion: numba's reference counting of array arguments costs more
    than such a step itself (measured: 1.46 us a call against 0.28 us inlined).
    """
    inline = numba.njit(nogil=True, error_model="numpy", forceinline=True)
    return _cached(function, inline(function))


def lanes(function: F) -> F:
    """Compile like `inlined`, for steps that many spots take side by side in vector registers.

    A product and the sum it goes into may be rounded once instead of twice (LLVM's "contract");
    no other liberty is taken with the arithmetic.
    """
    return _cached(function, numba.njit(**_LANES, forceinline=True)(function))


def narrow_lanes(function: F) -> F:
    """Compile like `lanes`, but leave the width of the registers to LLVM.

    For the detector, which loads and stores more than it computes: there the widest registers
    took a tenth longer.
    """
    return _cached(function, numba.njit(**_NARROW, forceinline=True)(function))


def kernel_of_lanes(function: F) -> F:
    """Compile like `lanes`, as a function of its own: for what is too large to be copied."""
    return _cached(function, numba.njit(**_LANES)(function))


def read_only(given: NDArray[S]) -> NDArray[S]:
    """Return a contiguous read-only view: to numba a writable array is another type to compile."""
    view = np.ascontiguousarray(given).view()
    view.flags.writeable = False
    return view


def _take_literals_as_numbers(compiled: Any) -> None:
    """Have kernels that pass a plain ``0`` call what is compiled for any integer.

    To numba a literal is a type of its own: it compiled a callee, and all below it, once more for
    each, and for a variable that merely begins with one before it saw that it goes on otherwise.
    """
    for_types = compiled.get_call_template

    def get_call_template(args: Any, kws: Any) -> Any:
        plain = {name: types.unliteral(given) for name, given in kws.items()}
        return for_types(tuple(map(types.unliteral, args)), plain)

    compiled.get_call_template = get_call_template


def _cached(function: F, compiled: Any) -> F:
    """Give `compiled` the cache on disk, if it takes one and a folder can be written."""
    if hasattr(compiled, "enable_caching"):
        _take_literals_as_numbers(compiled)
        try:
            compiled._cache = _Cache(function)
        except RuntimeError:  # no writable folder: numba found no locator
            return cast("F", compiled)
    return cast("F", compiled)
