"""A worker's memory: large blocks go back to the system as soon as they are free.

pyarrow looks for pandas at its first array, and loads it where there is one: a second and 60 MB for
nothing, since no worker uses it. So a worker has none.

A batch takes some 100 MB for a moment, on whichever thread decodes it. Left to themselves, the
allocators keep that for each thread: 250 MB more at full speed (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import sys
from importlib.abc import MetaPathFinder

import pyarrow as pa

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE = 1 << 20


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("a worker has no pandas", name=fullname)


def give_memory_back() -> None:
    """Before the first thread starts."""
    sys.meta_path.insert(0, _NoPandas())
    pa.set_memory_pool(pa.system_memory_pool())
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl does not
    if mallopt is not None:
        for what, value in (
            (_M_ARENA_MAX, 2),
            (_M_MMAP_THRESHOLD, _LARGE),
            (_M_TRIM_THRESHOLD, _LARGE),
        ):
            mallopt(what, value)
