"""What is sent: traffic whose every record says by its key what has to become of it.

`poison:<reason>:<number>` has to die for that reason, `aborted:` has never been; anything else, or
no key at all, is a good event. So the log is the oracle, whatever a broker did to a producer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from anabranch import Event, Exposure, Invite, Outcome, TurnMetric
from anabranch.encoding import Encoder
from anabranch.registry import Registry
from anabranch.settings import RegistrySettings
from schemas.topics import TOPICS
from service.traffic import Traffic

KINDS: tuple[type[Event], ...] = (Exposure, TurnMetric, Invite, Outcome)
EVENT_TOPICS = tuple(kind.TOPIC for kind in KINDS)
POISON = b"poison:"
ABORTED = b"aborted:"
CODECS = ("zstd", "lz4", "gzip", "snappy", "none")

_SHARE_OF_POISON = 0.01
_SHARE_OF_OTHER_CODECS = 0.08
_SHARE_WITH_HEADERS = 0.005
_SHARE_WITHOUT_KEY = 0.005
_UNKNOWN_SCHEMA_ID = 7_654_321


class Outgoing(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    codec: str


def schema_ids(registry_url: str) -> Mapping[str, int]:
    registry = Registry(RegistrySettings(url=registry_url))
    subjects = {spec.name: spec.subject for spec in TOPICS}
    return {kind.TOPIC: registry.id_of(subjects[kind.TOPIC], kind.SCHEMA) for kind in KINDS}


class Mixture:
    """An endless stream: good events of all four topics, and poison of every kind among them."""

    def __init__(self, seed: int, rate: float, ids: Mapping[str, int]) -> None:
        self._random = random.Random(seed)  # traffic, not secrets
        self._traffic = Traffic(seed, int(time.time() * 1000), rate)
        self._ids = ids
        self._encoders = {kind.TOPIC: Encoder(kind, ids[kind.TOPIC]) for kind in KINDS}
        self._poisoned = 0

    def records(self) -> Iterator[Outgoing]:
        choose = self._random
        for event in self._traffic.events():
            if choose.random() < _SHARE_OF_POISON:
                yield self._poison(event)
            yield self.good(event)

    def good(self, event: Event) -> Outgoing:
        choose = self._random
        key: bytes | None
        key, value = self._encoders[event.TOPIC].encode(event)
        if choose.random() < _SHARE_WITHOUT_KEY:
            key = None
        headers = (("trace", b"\x00\xff"),) if choose.random() < _SHARE_WITH_HEADERS else ()
        codec = choose.choice(CODECS) if choose.random() < _SHARE_OF_OTHER_CODECS else CODECS[0]
        return Outgoing(event.TOPIC, key, value, headers, codec)

    def _poison(self, event: Event) -> Outgoing:
        _, value = self._encoders[event.TOPIC].encode(event)
        reason, spoil = self._random.choice(_POISONS)
        self._poisoned += 1
        key = POISON + f"{reason}:{self._poisoned}".encode()
        return Outgoing(event.TOPIC, key, spoil(self, event, value), (), CODECS[0])

    def _encoded(self, event: Event) -> bytes:
        return self._encoders[event.TOPIC].encode(event)[1]

    def _of_another_topic(self, event: Event, value: bytes) -> bytes:
        other = next(topic for topic in EVENT_TOPICS if topic != event.TOPIC)
        return b"\0" + self._ids[other].to_bytes(4, "big") + value[5:]

    def _changed(self, event: Event, **fields: Any) -> bytes:
        return self._encoded(replace(event, **fields))  # type: ignore[type-var]

    def _absurd(self, event: Event, _: bytes) -> bytes:
        match event:
            case TurnMetric():
                return self._changed(event, turn_ms=-1)
            case Exposure():
                return self._changed(event, version=0)
            case Outcome():
                return self._changed(event, values={"revenue": float("nan")})
        return self._changed(event, locale="not a locale")

    def _huge(self, event: Event, _: bytes) -> bytes:
        return self._changed(
            event, event_id="x" * self._random.choice((300, 70_000, 500_000, 9_000_000))
        )


Spoil = Callable[[Mixture, Event, bytes], bytes | None]

_POISONS: tuple[tuple[str, Spoil], ...] = (
    ("empty", lambda *_: None),
    ("truncated", lambda _, __, value: b""),
    ("truncated", lambda _, __, value: value[:3]),
    ("truncated", lambda _, __, value: value[:20]),
    ("truncated", lambda _, __, value: value[:-1]),
    ("bad_magic", lambda _, __, value: b"\x01" + value[1:]),
    ("bad_magic", lambda *_: b'{"type":"turn_metric"}'),
    ("unknown_schema", lambda _, __, v: b"\0" + _UNKNOWN_SCHEMA_ID.to_bytes(4, "big") + v[5:]),
    ("wrong_schema", Mixture._of_another_topic),
    ("undecodable", lambda _, __, value: value + b"\x02"),
    ("undecodable", lambda _, __, value: value[:6] + b"\xff\xfe" + value[8:]),
    ("invalid", Mixture._absurd),
    ("invalid", Mixture._huge),
    ("invalid", lambda mixture, event, _: mixture._changed(event, event_id="a\x00b")),
    ("time_out_of_range", lambda mixture, event, _: mixture._changed(event, ts=0)),
    ("time_out_of_range", lambda mixture, event, _: mixture._changed(event, ts=1 << 47)),
)
