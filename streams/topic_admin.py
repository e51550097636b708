"""Topics as the catalogue wants them: what is missing is created, what differs is only reported.

A topic's partitions, replicas and retention decide where keys go and what is kept. Whoever changed
them on the cluster had a reason, or made a mistake: a person decides that, not the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from anabranch.settings import KafkaSettings
from schemas.topics import CATALOGUE, TopicSpec
from streams.connection import client_options

SETTLE_SECONDS = 15.0
_SETTLE_CHECK_SECONDS = 0.05


class NewTopicSettings(Protocol):
    """The part of the settings that says how new topics are made."""

    @property
    def partitions(self) -> int: ...

    @property
    def replication(self) -> int: ...


class TopicError(Exception):
    """A topic could not be made or looked at. The text names it and the broker's reason."""


class Wanted(NamedTuple):
    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


class Found(NamedTuple):
    partitions: int
    replication: int
    config: Mapping[str, str]


class Difference(NamedTuple):
    topic: str
    what: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} is {self.found}, should be {self.wanted}"


@dataclass(frozen=True, slots=True)
class TopicsReport:
    created: tuple[str, ...]
    differences: tuple[Difference, ...]
    """Of topics that were there already, and were left as they are."""


async def ensure_topics(kafka: KafkaSettings, topics: NewTopicSettings) -> TopicsReport:
    """Return when every topic of the catalogue exists and has leaders."""
    wanted = [_wanted(spec, topics) for spec in CATALOGUE]
    async with admin_client(kafka) as admin:
        existing = await existing_topics(admin)
        created = await _create(admin, [topic for topic in wanted if topic.name not in existing])
        await _settled(admin, [topic.name for topic in wanted])
        found = await _found(admin, [topic.name for topic in wanted])
    return TopicsReport(tuple(created), tuple(differences(wanted, found)))


def differences(wanted: Iterable[Wanted], found: Mapping[str, Found]) -> list[Difference]:
    seen = []
    for topic in wanted:
        here = found[topic.name]
        seen += [
            Difference(topic.name, what, str(is_now), str(should_be))
            for what, is_now, should_be in (
                ("partitions", here.partitions, topic.partitions),
                ("replication", here.replication, topic.replication),
                *(
                    (name, here.config.get(name, "not told"), value)
                    for name, value in topic.config.items()
                ),
            )
            if is_now != should_be
        ]
    return seen


@asynccontextmanager
async def admin_client(kafka: KafkaSettings) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(client_id="anabranch-topics", **client_options(kafka))
    try:
        await admin.start()
        yield admin
    except KafkaConnectionError as error:
        raise TopicError(f"no broker of {kafka.bootstrap} answers") from error
    except KafkaError as error:
        raise TopicError(f"Kafka at {kafka.bootstrap}: {error}") from error
    finally:
        await admin.close()


async def existing_topics(admin: Any) -> dict[str, list[dict[str, Any]]]:
    """Partitions of each topic. All are asked for: naming one could create it."""
    return {
        topic["topic"]: topic["partitions"]
        for topic in await admin.describe_topics()
        if not topic["is_internal"]
    }


def _wanted(spec: TopicSpec, topics: NewTopicSettings) -> Wanted:
    partitions = topics.partitions if spec.partitions == "setting" else spec.partitions
    return Wanted(spec.name, partitions, topics.replication, spec.config(topics.replication))


async def _create(admin: Any, missing: list[Wanted]) -> list[str]:
    if not missing:
        return []
    response = await admin.create_topics(
        [
            NewTopic(topic.name, topic.partitions, topic.replication, topic_configs=topic.config)
            for topic in missing
        ]
    )
    created = []
    for name, code, message in response.topic_errors:
        error = for_code(code)
        if code == 0:
            created.append(name)
        elif error is not TopicAlreadyExistsError:  # somebody else was faster: that is fine
            raise TopicError(f"{name} cannot be created: {message or error.__name__}")
    return created


async def _settled(
    admin: Any,
    names: list[str],
    sleep: Callable[[float], Any] = asyncio.sleep,
) -> None:
    """A new topic is known to every broker a moment after it was created, not at once."""
    waited = 0.0
    while True:
        existing = await existing_topics(admin)
        waiting = [
            name
            for name in names
            if not existing.get(name) or any(part["leader"] < 0 for part in existing[name])
        ]
        if not waiting:
            return
        if waited > SETTLE_SECONDS:
            raise TopicError(f"{', '.join(waiting)} got no leader within {SETTLE_SECONDS:g} s")
        await sleep(_SETTLE_CHECK_SECONDS)
        waited += _SETTLE_CHECK_SECONDS


async def _found(admin: Any, names: list[str]) -> dict[str, Found]:
    existing = await existing_topics(admin)
    answers = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    )
    found = {}
    for answer in answers:
        for code, message, _, name, entries in answer.resources:
            if code:
                raise TopicError(f"{name}: its configuration cannot be read: {message or code}")
            partitions = existing[name]
            found[name] = Found(
                len(partitions),
                min(len(part["replicas"]) for part in partitions),
                {entry[0]: entry[1] for entry in entries},
            )
    return found
