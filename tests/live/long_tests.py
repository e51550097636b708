"""Which tests `make test` leaves to `make chaos`."""

from __future__ import annotations

import os

import pytest

long = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="`make chaos` runs it")
