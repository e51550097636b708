"""`batches`: ranges without gap or overlap, and all that they say of rows and dead letters."""

# ruff: noqa: S608  # names are ours, values are numbers or quoted

from __future__ import annotations

from datetime import datetime, timedelta

from sinks.verify_comparison import Measure, Subject, comparison
from sinks.verify_lives import Scope, lives, place_key, together
from sinks.verify_offsets import check_dead_letters, check_rows
from sinks.verify_questions import LISTED, Difference, Findings, Progress, Questions
from sinks.verify_sources import RAW_TABLES, Frontier, batch_side, second, text

_MONTH = timedelta(days=31)


async def check_ranges(
    ask: Questions,
    findings: Findings,
    since: datetime | None,
    horizon: datetime,
    progress: Progress,
) -> None:
    """`since` is when batches were applied. Raw rows from before the `horizon` may be gone."""
    found = await lives(ask, since)
    if since is None and not await _are_some_gone(ask, horizon):
        found = [life._replace(begins=0) for life in found]
    for number, topic in enumerate(RAW_TABLES):
        progress("batches", number / len(RAW_TABLES))
        known = [life for life in found if life.topic == topic]
        findings.checked["batches"] += sum(life.batches for life in known)
        findings.checked[RAW_TABLES[topic]] += sum(life.rows for life in known)
        if since is None:
            await _count_beginning(ask, findings, Scope(topic, known))
        for some in together(known):
            await _check_sequence(ask, findings, Scope(topic, some))
            await check_rows(ask, findings, Scope(topic, some), horizon)
            await check_dead_letters(ask, findings, Scope(topic, some), horizon)
    await _check_totals(ask, findings, horizon)


async def _are_some_gone(ask: Questions, horizon: datetime) -> bool:
    """Whether the table's own rule may have taken the oldest batches already."""
    ((gone,),) = await ask.rows(
        f"SELECT count() FROM batches WHERE applied_at < {second(horizon + _MONTH)}"
    )
    return bool(gone)


async def _count_beginning(ask: Questions, findings: Findings, scope: Scope) -> None:
    """Rows of partitions whose very first batch is not finished."""
    table = RAW_TABLES[scope.topic]
    others = f"AND _partition NOT IN ({scope.partitions})" if scope.lives else ""
    (rows,) = await ask.row(
        f"SELECT count() FROM {table} WHERE _topic = {text(scope.topic)} {others}"
    )
    findings.in_flight[table] += rows


async def _check_totals(ask: Questions, findings: Findings, horizon: datetime) -> None:
    """`batch_totals`, which outlives some of the batches that it adds up."""
    sums = ("rows", "dead", "skipped", "lost")
    subject = Subject(
        "batch_totals",
        ("topic", "partition", "epoch"),
        (Measure("n"), *map(Measure, sums), Measure("last", "max"), Measure("applied_at", "max")),
    )
    columns = ", ".join(
        (
            "topic, partition, epoch",
            *(f"sum({name}) AS {name}" for name in sums),
            "max(last) AS last, max(applied_at) AS applied_at",
        )
    )
    each = "GROUP BY topic, partition, epoch"
    found = f"SELECT sum(batches) AS n, {columns} FROM batch_totals {each}"
    excused = f"{int(await _are_some_gone(ask, horizon))} AND found_n > all_n"

    def held(frontier: Frontier) -> str:
        made = (
            f"SELECT count() AS n, {columns}, side "
            f"FROM (SELECT *, {batch_side(frontier)} AS side FROM batches) "
            f"{each}, side"
        )
        return comparison(subject, found, made, excused=excused)

    looked = await ask.looked_at_again(held)
    findings.checked["batch_totals"] += looked.keys
    findings.add_odd(subject, looked, {"n": "batches"})


async def _check_sequence(ask: Questions, findings: Findings, scope: Scope) -> None:
    rows = await ask.rows(
        "SELECT partition, epoch, first, last, before, accounted, count() OVER () FROM ("
        "SELECT partition, epoch, first, last, rows + dead + skipped + lost AS accounted, "
        "lagInFrame(toNullable(last)) OVER (PARTITION BY partition, epoch ORDER BY first, last "
        f"ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS before FROM {scope.batches}) "
        "WHERE first != before + 1 OR last < first OR toInt64(accounted) > last - first + 1 "
        f"ORDER BY partition, epoch, first LIMIT {LISTED}"
    )
    for partition, epoch, first, last, before, accounted, _ in rows:
        key = place_key(scope.topic, partition, epoch, first, last)
        if before is not None and first != before + 1:
            kind = "a gap" if first > before + 1 else "an overlap"
            found = f"{first}: {kind} of {abs(first - before - 1)} offsets"
            findings.add(Difference("batches", key, "first", str(before + 1), found))
        if accounted > last - first + 1:
            expected = f"at most {last - first + 1}, the length of the range"
            column = "rows + dead + skipped + lost"
            findings.add(Difference("batches", key, column, expected, str(accounted)))
    findings.total += (rows[0][-1] if rows else 0) - len(rows)
