"""`anabranch topics`: what stands in the topics; with `--create`, make what is missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from anabranch.registry import Registry, RegistryError, RegistryUnavailableError
from schemas.record import schema_text
from schemas.topics import TOPICS
from service.errors import CommandError
from service.settings import DEFAULT_STATE, Settings, load_settings
from streams.topic_admin import TopicError, ensure_topics
from streams.topic_listing import Listing, PartitionState, list_topics


def topics(
    topic: Annotated[str | None, Parameter(help="Show this topic, partition by partition.")] = None,
    *,
    create: Annotated[bool, Parameter(help="Create what is missing, report what differs.")] = False,
    register: Annotated[bool, Parameter(help="With --create: register the schemas, too.")] = True,
    json_: Annotated[bool, Parameter("--json", help="Print JSON.")] = False,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """List partitions, offsets, records and the lag of consumer groups; or create the topics.

    A topic that exists with another number of partitions or another configuration is reported and
    left as it is; the command then ends with status 1.
    """
    settings = load_settings(state=state)
    try:
        if create:
            _create(settings, register=register)
        else:
            _show(asyncio.run(list_topics(settings.kafka)), topic, as_json=json_)
    except TopicError as error:
        raise CommandError(str(error)) from error


def _create(settings: Settings, *, register: bool) -> None:
    report = asyncio.run(ensure_topics(settings.kafka, settings.topics))
    for name in report.created:
        print(f"created {name}")
    wrong = [f"{difference} (left as it is)" for difference in report.differences]
    if register:
        wrong += _register_schemas(settings)
    if wrong:
        raise CommandError("not all is as the catalogue has it:\n  " + "\n  ".join(wrong))


def _register_schemas(settings: Settings) -> list[str]:
    """What went wrong. A registry that is read-only answers a schema that it has with its id."""
    registry = Registry(settings.registry)
    for spec in TOPICS:
        try:
            schema_id = registry.register(spec.subject, schema_text(spec.schema))
        except RegistryUnavailableError as error:
            return [f"no schema is registered: {error} (--no-register leaves them alone)"]
        except RegistryError as error:
            return [f"the schema of {spec.subject} is not registered: {error}"]
        print(f"schema {spec.subject} has id {schema_id}")
    return []


def _show(listing: Listing, topic: str | None, *, as_json: bool) -> None:
    partitions = [state for state in listing.partitions if topic in (None, state.topic)]
    if topic is not None and not partitions:
        known = ", ".join(dict.fromkeys(state.topic for state in listing.partitions))
        raise CommandError(f"there is no topic {topic!r}; there are: {known or 'none yet'}")
    if as_json:
        print(json.dumps(_as_json(partitions, listing.missing if topic is None else ())))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(_table(partitions) if topic else _summary(partitions))
    if listing.missing and topic is None:
        console.print(f"missing: {', '.join(listing.missing)}; `anabranch topics --create`")


def _as_json(partitions: Iterable[PartitionState], missing: tuple[str, ...]) -> object:
    return {
        "partitions": [
            {**state._asdict(), "lag": dict(state.lag), "records": state.records}
            for state in partitions
        ],
        "missing": list(missing),
    }


def _table(partitions: Iterable[PartitionState]) -> Table:
    table = Table("partition", "first", "end", "records", "lag", box=None, pad_edge=False)
    for state in partitions:
        numbers = (state.partition, state.first, state.end, state.records)
        table.add_row(*map(str, numbers), _lags(dict(state.lag)))
    return table


def _summary(partitions: Iterable[PartitionState]) -> Table:
    by_topic: dict[str, list[PartitionState]] = {}
    for state in partitions:
        by_topic.setdefault(state.topic, []).append(state)
    table = Table("topic", "partitions", "records", "lag", box=None, pad_edge=False)
    for name, states in by_topic.items():
        lag: dict[str, int] = {}
        for state in states:
            for group, behind in state.lag.items():
                lag[group] = lag.get(group, 0) + behind
        records = sum(state.records for state in states)
        table.add_row(name, str(len(states)), str(records), _lags(lag))
    return table


def _lags(lag: dict[str, int]) -> str:
    return ", ".join(f"{group} {behind}" for group, behind in lag.items())
