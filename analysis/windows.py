"""What does a batch add to each aggregate table?

Each function takes the decoded frame of one topic (the event's fields; times in ms) and gives the
rows of one table, as one chunk. Rows add: those of two halves of a batch merge in the table into
those of the whole. The same frame gives the same rows in the same order, so that a batch that is
formed again is the batch that it was.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from analysis.sketches import Counted, bucket_of, counted, runs

TURN_METRICS = (
    "turn_ms",
    "model_ms",
    "bundle_tokens",
    "output_tokens",
    "retries",
    "fallbacks",
    "tool_calls",
    "acts",
    "choices",
    "time_ticks",
)
INVITE_STEPS = ("sent", "joined", "fvm")
"""A step that is not among them, of a later schema, rests in the raw rows and counts nowhere."""
WINDOW_MS = 60_000

_Ints = npt.NDArray[np.int64]
_KEYS = ("window", "experiment", "version", "variation", "locale", "metric")
_UTC_MS = pl.Datetime("ms", "UTC")
_WINDOW = (pl.col("ts") // WINDOW_MS * WINDOW_MS).cast(_UTC_MS).alias("window")
_DAY = pl.col("ts").cast(_UTC_MS).dt.date().alias("day")
_NO_EXPERIMENT = (
    pl.lit("").alias("experiment"),
    pl.lit(0, pl.Int32).alias("version"),
    pl.lit("").alias("variation"),
)


def windows_of_turns(turns: pl.DataFrame) -> pa.Table:
    """`metric_windows`: each turn once for each exposure, or once for no experiment."""
    groups = _grouped(_by_exposure(turns), _KEYS[:-1])
    return _stacked([_summary(groups, turns[metric].to_numpy(), metric) for metric in TURN_METRICS])


def windows_of_exposures(exposures: pl.DataFrame) -> pa.Table:
    """`metric_windows`: the metric `exposures`, 1 each."""
    rows = exposures.select(
        _WINDOW, "experiment", "version", "variation", "locale", row=pl.int_range(pl.len())
    )
    groups = _grouped(rows, _KEYS[:-1])
    return _stacked([_summary(groups, _ones(exposures), "exposures")])


def windows_of_invites(invites: pl.DataFrame) -> pa.Table:
    """`metric_windows`: `invites_sent`, `invites_joined`, `invites_fvm`, 1 for each exposure."""
    steps = invites.filter(pl.col("kind").is_in(INVITE_STEPS))
    metric = pl.concat_str(pl.lit("invites_"), "kind").alias("metric")
    return _stacked([_summary(_grouped(_by_exposure(steps, metric), _KEYS), _ones(steps))])


def windows_of_outcomes(outcomes: pl.DataFrame) -> pa.Table:
    """`metric_windows`: a metric for each name of a value, of no experiment and no locale."""
    rows = (
        outcomes.select(_WINDOW, *_NO_EXPERIMENT, pl.lit("").alias("locale"), "values")
        .explode("values", empty_as_null=False)
        .unnest("values")
        .rename({"name": "metric"})
        .with_columns(row=pl.int_range(pl.len()))
    )
    return _stacked([_summary(_grouped(rows, _KEYS), rows["value"].to_numpy())])


def unit_metrics(turns: pl.DataFrame) -> pa.Table:
    """A turn without exposures belongs to no unit and gives no row."""
    rows = (
        turns.select(_DAY, "exposures", *TURN_METRICS)
        .explode("exposures", empty_as_null=False)
        .unnest("exposures")
    )
    # The cast: polars sums an Int32 into an Int32, which overflows.
    sums = [pl.col(metric).cast(pl.Int64).sum().name.suffix("_sum") for metric in TURN_METRICS]
    keys = ("day", "experiment", "version", "variation", "unit")
    grouped = rows.group_by(keys, maintain_order=True)
    return _arrow(grouped.agg(pl.len().cast(pl.UInt64).alias("n"), *sums))


def unit_exposures(exposures: pl.DataFrame) -> pa.Table:
    """`first` is the least by all its fields in their order, as `min(first)` is in the engine.

    So exposures of the same millisecond have one first, whichever batch brings them.
    """
    first = ("ts", "version", "variation", "locale", "attributes")
    at = pl.col("ts").cast(_UTC_MS)
    grouped = exposures.sort(first, maintain_order=True).group_by(
        "experiment", "unit", maintain_order=True
    )
    rows = grouped.agg(
        at.first(),
        *[pl.col(name).first() for name in first[1:]],
        at.max().alias("last_ts"),
        pl.col("variation").alias("variations"),
        pl.len().cast(pl.UInt64).alias("n"),
    )
    return _arrow(
        rows.select(
            "experiment",
            "unit",
            pl.struct(first).alias("first"),
            "last_ts",
            pl.col("variations").list.unique(maintain_order=True),
            "n",
        )
    )


def invite_units(invites: pl.DataFrame) -> pa.Table:
    steps = invites.filter(pl.col("kind").is_in(INVITE_STEPS))
    counts = [(pl.col("kind") == step).sum().cast(pl.UInt64).alias(step) for step in INVITE_STEPS]
    grouped = steps.group_by(_DAY, "loop", "inviter", "locale", maintain_order=True)
    return _arrow(grouped.agg(*counts))


def restatements(
    events: pl.DataFrame, highest_before_ms: int | None, grace_ms: int = 0
) -> pa.Table:
    """The windows that had closed before this batch and that it changes, each with its late events.

    A window has closed when the partition has seen an event as late as its end and the grace
    after it. Nothing has closed before a partition's first batch (None).
    """
    if highest_before_ms is None:
        events = events.head(0)
    ends = pl.col("ts") // WINDOW_MS * WINDOW_MS + WINDOW_MS
    late = events.filter(ends + grace_ms <= (highest_before_ms or 0))
    windows = late.group_by(_WINDOW).agg(pl.len().cast(pl.UInt64).alias("events"))
    return _arrow(windows.sort("window"))


class _Groups(NamedTuple):
    keys: pa.Table
    sizes: _Ints
    rows: _Ints
    """Which row of the frame each contribution comes from, one group after the other."""
    group: _Ints
    """The group of each contribution."""


def _by_exposure(events: pl.DataFrame, *also: pl.Expr) -> pl.DataFrame:
    columns = events.select(_WINDOW, "locale", "exposures", *also, row=pl.int_range(pl.len()))
    rows = columns.explode("exposures", empty_as_null=True).unnest("exposures")
    return rows.with_columns(
        pl.col("experiment", "variation").fill_null(""), pl.col("version").fill_null(0)
    )


def _grouped(contributions: pl.DataFrame, keys: tuple[str, ...]) -> _Groups:
    grouped = contributions.group_by(keys, maintain_order=True).agg("row")
    sizes = grouped["row"].list.len().to_numpy().astype(np.int64)
    return _Groups(
        keys=_arrow(grouped.select(keys)),
        sizes=sizes,
        rows=grouped["row"].explode(empty_as_null=False).to_numpy(),
        group=np.repeat(np.arange(len(sizes)), sizes),
    )


def _summary(groups: _Groups, column: npt.NDArray[Any], metric: str | None = None) -> pa.Table:
    """The rows of one column of values; `metric` names them where the groups do not."""
    table, group = groups.keys, groups.group
    if metric is not None:
        name = pa.scalar(metric, pa.large_string())
        table = table.append_column("metric", pa.repeat(name, len(table)))
    taken = column[groups.rows]
    if _are_few(taken, len(groups.sizes)):
        # Whole numbers of a small range: one pass counts each, the rest follows from the counts.
        group, taken, weights = counted(group, taken)
        values = taken.astype(np.float64)
        weighted = values * weights
        histogram = runs(group, bucket_of(values), weights)
    else:
        values = weighted = taken.astype(np.float64)
        histogram = counted(group, bucket_of(values))
    starts = np.searchsorted(group, np.arange(len(groups.sizes)))
    summary = {
        "n": groups.sizes.astype(np.uint64),
        "sum": np.add.reduceat(weighted, starts),
        "sum_sq": np.add.reduceat(weighted * values, starts),
        "min": np.minimum.reduceat(values, starts),
        "max": np.maximum.reduceat(values, starts),
    }
    for name, numbers in summary.items():
        table = table.append_column(name, pa.array(numbers))
    return table.append_column("histogram", _maps(histogram, len(groups.sizes)))


def _are_few(values: npt.NDArray[Any], groups: int) -> bool:
    if values.dtype.kind != "i" or not values.size:
        return False
    return (int(values.max()) - int(values.min()) + 1) * groups <= 4 * values.size


def _maps(histogram: Counted, groups: int) -> pa.Array:
    offsets = np.searchsorted(histogram.group, np.arange(groups + 1))
    return pa.MapArray.from_arrays(
        pa.array(offsets, pa.int32()),
        pa.array(histogram.code, pa.int32()),
        pa.array(histogram.times, pa.uint64()),
    )


def _ones(events: pl.DataFrame) -> _Ints:
    return np.ones(len(events), dtype=np.int64)


def _stacked(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).combine_chunks()


def _arrow(rows: pl.DataFrame) -> pa.Table:
    return rows.to_arrow().combine_chunks()
