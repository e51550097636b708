"""A worker's large blocks in huge pages.

What a worker gives back is fresh when it is asked for again, a fault for every page. In huge pages
there are 500 times fewer of them: a seventh of a worker's CPU.
"""

from __future__ import annotations

import os
import sys

# Where the kernel gives huge pages to whoever asks for them ("madvise"), this is how.
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
_HUGE_PAGES_OF_POLARS = "thp:always,dirty_decay_ms:1000"


def use_huge_pages() -> None:
    """Start this process anew, once, since allocators read their settings before all else.

    First of all: what the process has done until then is gone.
    """
    if sys.platform != "linux" or _HUGE_PAGES in os.environ.get("GLIBC_TUNABLES", ""):
        return
    tunables = filter(None, (os.environ.get("GLIBC_TUNABLES"), _HUGE_PAGES))
    os.environ["GLIBC_TUNABLES"] = ":".join(tunables)
    os.environ.setdefault("_RJEM_MALLOC_CONF", _HUGE_PAGES_OF_POLARS)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # this very program
