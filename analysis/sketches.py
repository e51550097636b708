"""How are values counted so that their quantiles add up?

A histogram counts values by bucket, and two of them add bucket by bucket. A bucket is what the
leading bits of an IEEE double say: its exponent and the first six bits of its fraction. So each
power of two is cut into 64 buckets of equal width, a bucket is at most 1/64 of its values wide, and
its middle is less than 0.8 % off any of them. Buckets rise with their values; 0 has its own.

Python and SQL compute the same buckets and quantiles to the last bit: the engine can recompute any
stored histogram from raw rows. The bound of 1 % holds for 0 and from 2.3e-308 upwards.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[Any]
"""Of any width: a column's own, a bucket's 32 bits, or 64."""

# Of the 52 bits of a fraction, 46 are dropped and 6 stay.
_DROPPED_BITS = 46
_MAGNITUDE_BITS = 0x7FFF_FFFF_FFFF_FFFF


def bucket_of(values: npt.NDArray[Any]) -> Ints:
    """The bucket of each value, which must be finite."""
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    magnitudes = ((bits & _MAGNITUDE_BITS) >> _DROPPED_BITS).astype(np.int32)
    if bits.size and bits.min() < 0:
        magnitudes[bits < 0] *= -1
    return magnitudes


class Counted(NamedTuple):
    """How often each code (a bucket, a whole number) occurs in each group; by group, then code."""

    group: Ints
    code: Ints
    times: Ints


def counted(group: Ints, codes: Ints) -> Counted:
    """Both as integers from no wider a range than a table of it may take."""
    if not codes.size:
        return Counted(group, codes, codes)
    low, groups = int(codes.min()), int(group.max()) + 1
    codes, width = codes - low, int(codes.max()) - low + 1
    present = None
    if width * groups > 4 * codes.size:
        # Few of the buckets between two occur: between 0 and 1 lie 65,000.
        table = np.zeros(width, dtype=np.int64)
        table[codes] = 1
        present, width = np.flatnonzero(table), int(table.sum())
        codes = (np.cumsum(table) - 1)[codes]
    keys = group * width + codes
    if width * groups > 8 * codes.size:
        keys, times = np.unique(keys, return_counts=True)
    else:
        times = np.bincount(keys)
        keys = np.flatnonzero(times)
        times = times[keys]
    group, codes = np.divmod(keys, width)
    return Counted(group, (codes if present is None else present[codes]) + low, times)


def runs(group: Ints, codes: Ints, times: Ints) -> Counted:
    """`counted` of codes that are in order already and stand for several each."""
    changes = (np.diff(group, prepend=-1) != 0) | (np.diff(codes, prepend=codes[:1] - 1) != 0)
    edges = np.flatnonzero(changes)
    return Counted(group[edges], codes[edges], np.add.reduceat(times, edges))


def bounds_of(bucket: int) -> tuple[float, float]:
    """Between which two values those of a bucket lie; the one nearer to zero is among them."""
    near, far = _double(abs(bucket)), _double(abs(bucket) + 1)
    if bucket == 0:
        return -far, far
    return (near, far) if bucket > 0 else (-far, -near)


def merge(*histograms: Mapping[int, int]) -> dict[int, int]:
    merged: Counter[int] = Counter()
    for histogram in histograms:
        merged.update(histogram)
    return dict(merged)


def quantile(
    histogram: Mapping[int, int], q: float, smallest: float, greatest: float
) -> float | None:
    """The value at the rank ceil(q * n), within 1 %; None of no values.

    It is the middle of that value's bucket, held between the smallest and the greatest value.
    Nothing is interpolated: an end of a bucket may be 1.6 % off, the middle never is. Of whole
    numbers, the integer part is as near, and exact below 128.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile is asked for between 0 and 1, not at {q}")
    rank = max(1, math.ceil(q * sum(histogram.values())))
    seen = 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen >= rank:
            low, high = bounds_of(bucket)
            # Halved before they are added: the sum of two large ones is infinite.
            return max(smallest, min(greatest, low / 2 + high / 2))
    return None


def bucket_sql(value: str) -> str:
    """`bucket_of` of an SQL expression, as an Int32."""
    bits = f"bitAnd(reinterpretAsUInt64(toFloat64({value})), {_MAGNITUDE_BITS})"
    return f"toInt32(if({value} < 0, -1, 1) * toInt32(bitShiftRight({bits}, {_DROPPED_BITS})))"


def quantile_sql(histogram: str, q: float, smallest: str, greatest: str) -> str:
    """`quantile` of SQL expressions, as a Nullable(Float64); the map may be in any order."""
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile is asked for between 0 and 1, not at {q}")
    ordered = f"mapSort({histogram})"
    rank = f"greatest(1, ceil({float(q)!r} * arraySum(mapValues({histogram}))))"
    bucket = (
        f"mapKeys({ordered})"
        f"[arrayFirstIndex(seen -> seen >= {rank}, arrayCumSum(mapValues({ordered})))]"
    )
    near = f"reinterpretAsFloat64(bitShiftLeft(toUInt64(abs(bucket)), {_DROPPED_BITS}))"
    far = f"reinterpretAsFloat64(bitShiftLeft(toUInt64(abs(bucket)) + 1, {_DROPPED_BITS}))"
    # The map of one bucket gives it a name: an expression has no other place for one.
    middle = f"arrayMap(bucket -> sign(bucket) * ({near} / 2 + {far} / 2), [{bucket}])[1]"
    return f"if(empty({histogram}), NULL, greatest({smallest}, least({greatest}, {middle})))"


def _double(magnitude: int) -> float:
    (value,) = struct.unpack("<d", struct.pack("<q", magnitude << _DROPPED_BITS))
    return float(value)
