"""The README's five-minute tour, read from the README, so that it cannot rot."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx

from anabranch.events import EVENT_TYPES
from tests.live.event_topics import stored_events
from tests.live.kafka_fixture import Broker
from tests.live.service_fixture import Service

README = Path(__file__).parents[2] / "README.md"


def tour() -> list[dict[str, Any]]:
    """The bodies of its curl lines, in order. Parsed, since a machine may have no curl."""
    lines = re.findall(r"^curl .*/v1/events.*$", README.read_text(), flags=re.MULTILINE)
    bodies = []
    for line in lines:
        words = shlex.split(line)
        assert words[words.index("-H") + 1] == "Authorization: Bearer $KEY"
        bodies.append(json.loads(words[words.index("--json") + 1]))
    return bodies


async def test_tour_emits_one_event_of_each_kind_and_kafka_holds_them(
    service: Service, kafka: Broker
) -> None:
    *good, broken = tour()
    assert len(good) == 3
    sent = [event for body in good for event in body["events"]]
    assert {event["type"] for event in sent} == set(EVENT_TYPES)
    async with service.client() as client:
        for body in good:
            answer = await client.post("/v1/events", json=body)
            assert answer.status_code == 202
            assert answer.json() == {"accepted": len(body["events"]), "rejected": []}
        refused = await client.post("/v1/events", json=broken)
    assert refused.json()["accepted"] == 0
    assert "'sned'; it must be one of sent, joined, fvm" in refused.json()["rejected"][0]["error"]
    for event in sent:
        kind = EVENT_TYPES[event["type"]]
        stored = await stored_events(kafka.settings, kind.TOPIC)
        assert event[kind.KEY].encode() in {record.key for record in stored}


def test_readme_names_only_pages_that_answer(service: Service) -> None:
    text = README.read_text()
    pages = re.findall(r"(?:localhost:8080|`)(/(?!v1/)[a-z]+)", text)
    assert set(pages) == {"/docs", "/readyz", "/metrics"}
    for page in pages:
        assert httpx.get(service.url + page).status_code == 200
