"""A stack seen from outside: what it says of itself, held against what really runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import psutil

from deploy.probes import clickhouse_answers, kafka_answers, service_answers
from deploy.state import RunningPart, StackRecord, StateFolder, read_record, running


class PartSeen(NamedTuple):
    name: str
    pid: int
    restarts: int
    rss_mb: int


class StackSeen(NamedTuple):
    state: Path
    runs: bool
    ready: bool
    service: str | None
    kafka: str | None
    clickhouse: str | None
    processes: tuple[PartSeen, ...]
    problems: tuple[str, ...]  # why it is not ready


def look_at(state: StateFolder) -> StackSeen:
    record = read_record(state)
    if record is None or running(record.pid, record.started) is None:
        return StackSeen(
            state.root, False, False, None, None, None, (), (f"no stack runs in {state.root}",)
        )
    seen = tuple(seen for part in record.processes if (seen := part_seen(part)) is not None)
    problems = asyncio.run(what_is_wrong(record))
    return StackSeen(
        state.root, True, not problems, *record.addresses, processes=seen, problems=problems
    )


def part_seen(part: RunningPart) -> PartSeen | None:
    process = running(part.pid, part.started)
    if process is None:
        return None
    try:
        return PartSeen(part.name, part.pid, part.restarts, process.memory_info().rss >> 20)
    except psutil.NoSuchProcess:
        return None


async def what_is_wrong(record: StackRecord) -> tuple[str, ...]:
    answers = await asyncio.gather(
        kafka_answers(record.kafka),
        clickhouse_answers(record.clickhouse),
        service_answers(record.service),
    )
    dead = [
        f"{part.name} does not run"
        for part in record.processes
        if running(part.pid, part.started) is None
    ]
    return (*dead, *(answer for answer in answers if answer is not None))
