"""One unit, four doors, one answer: over HTTP, by GrowthBook's SDKs, by OpenFeature, in process."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

import growthbook
import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

from anabranch.assignment import Assignment
from anabranch.definition_set import DefinitionSet
from anabranch.events import ExperimentRecord
from schemas.topics import EXPERIMENTS, EXPOSURES
from service.access import Role
from service.definition_log import Status
from tests.every_experiment import DOCUMENTS, NOW, Document, units
from tests.every_experiment import EXPERIMENTS as KEYS
from tests.live.definition_services import append, encoded
from tests.live.kafka_fixture import Broker
from tests.live.service_fixture import Service

Item = TypeVar("Item")
JAVASCRIPT = Path(__file__).parent / "javascript"
COUNT = 10_000
# A part of all units meets every experiment; all units meet some.
SOME_KEYS = ("plain", "three", "of_players", "nested", "phased", "everything", "asking")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some


def record(document: Document) -> tuple[bytes, bytes]:
    return encoded(
        ExperimentRecord(
            key=document.key,
            version=document.version,
            status=cast(Status, document.status),
            definition=json.dumps(document.definition),
            changed_by="test",
        )
    )


@pytest.fixture(scope="module")
def defined(kafka: Broker, service: Service) -> DefinitionSet:
    """The service has every experiment; what it has is what this process decides with."""
    asyncio.run(append(kafka.settings, EXPERIMENTS.name, *map(record, DOCUMENTS)))
    with httpx.Client(base_url=service.url, headers=service.headers(Role.EVALUATE)) as client:
        while True:
            answer = client.get("/v1/definitions").raise_for_status().json()
            found = [
                Document(one["key"], one["version"], one["status"], one["definition"])
                for one in answer["documents"]
            ]
            if {one.key for one in DOCUMENTS} <= {one.key for one in found}:
                return DefinitionSet.of(found)


@pytest.fixture(scope="module")
def expected(defined: DefinitionSet) -> Mapping[int, Mapping[str, Assignment]]:
    at = NOW.timestamp()
    return {
        number: {
            key: defined.assign(key, {}, attributes, at=at)
            for key in (KEYS if number < 300 else SOME_KEYS)
        }
        for number, attributes in enumerate(units(COUNT))
    }


def variation_of(answer: Assignment) -> str | None:
    return answer.variation if answer.in_experiment else None


async def test_http_gives_the_answer_of_this_process(
    service: Service, expected: Mapping[int, Mapping[str, Assignment]]
) -> None:
    async with service.client(Role.EVALUATE) as client:

        async def ask(number: int, attributes: Mapping[str, Any]) -> None:
            wanted = expected[number]
            kinds = {kind: attributes[kind] for kind in ("session", "player")}
            body: dict[str, Any] = {"unit": kinds, "attributes": attributes}
            body |= {"experiments": list(wanted)}
            body |= {"log": False, "deadline_ms": 60_000}
            answer = await client.post("/v1/assign", json=body)
            assert answer.status_code == 200, answer.text
            for one in answer.json()["assignments"]:
                ours = wanted[one["experiment"]]
                told = (one["variation"], one["params"], one["reason"], one["exposure_id"])
                made = (ours.variation, dict(ours.params), ours.reason, ours.exposure_id)
                assert told == made, (one, ours)

        for some in batched(enumerate(units(COUNT)), 50):
            await asyncio.gather(*(ask(*one) for one in some))


def test_growthbooks_python_sdk_gives_it_too(
    service: Service, expected: Mapping[int, Mapping[str, Assignment]]
) -> None:
    key = service.keys[Role.EVALUATE]
    payload = httpx.get(f"{service.url}/api/features/{key}").raise_for_status().json()
    for number, attributes in enumerate(units(COUNT)):
        sdk: Any = growthbook.GrowthBook(
            attributes=attributes,
            features=payload["features"],
            savedGroups=payload["savedGroups"],
        )
        for name, ours in expected[number].items():
            found = sdk.eval_feature(name)
            result = found.experimentResult
            inside = result.key if result is not None and result.inExperiment else None
            assert (found.value, inside) == (dict(ours.params), variation_of(ours))


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node.js here")
    folder = tmp_path_factory.mktemp("javascript")
    for file in JAVASCRIPT.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


def decided_by_node(folder: Path, asked: Mapping[str, Any]) -> Sequence[Any]:
    done = subprocess.run(
        ["node", "decide.mjs"],
        cwd=folder,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"NO_PROXY": "127.0.0.1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Sequence[Any] = json.loads(done.stdout)
    return found


def test_growthbooks_javascript_sdk_gives_it_too(
    service: Service, expected: Mapping[int, Mapping[str, Assignment]], node_modules: Path
) -> None:
    for keys, first, last in ((KEYS, 0, 300), (SOME_KEYS, 300, COUNT)):
        asked = list(units(COUNT))[first:last]
        found = decided_by_node(
            node_modules,
            {
                "apiHost": service.url,
                "clientKey": service.keys[Role.EVALUATE],
                "keys": keys,
                "units": asked,
            },
        )
        for number, row in enumerate(found, start=first):
            for key, (value, variation) in zip(keys, row, strict=True):
                ours = expected[number][key]
                assert (value, variation) == (dict(ours.params), variation_of(ours))


@pytest.fixture
def openfeature(service: Service) -> Iterator[Any]:
    provider = OFREPProvider(service.url, headers_factory=lambda: service.headers(Role.EVALUATE))
    api.set_provider(provider)
    yield api.get_client()
    provider.session.close()


def test_openfeatures_provider_gives_it_too(
    openfeature: Any, expected: Mapping[int, Mapping[str, Assignment]]
) -> None:
    for number, attributes in zip(range(100), units(COUNT), strict=False):
        context = EvaluationContext(attributes["session"], attributes)
        for key, ours in expected[number].items():
            found = openfeature.get_object_details(key, {}, context)
            assert found.error_code is None, found.error_message
            assert (found.value, found.variant) == (dict(ours.params), ours.variation)
            assert found.flag_metadata["in_experiment"] == ours.in_experiment


async def test_openfeature_asks_for_all_at_once_and_again_without_a_change(
    service: Service, expected: Mapping[int, Mapping[str, Assignment]]
) -> None:
    attributes = next(iter(units(1)))
    body = {"context": {"targetingKey": attributes["session"], **attributes}}
    path = "/ofrep/v1/evaluate/flags"
    async with service.client(Role.EVALUATE) as client:
        answer = await client.post(path, json=body)
        flags = {flag["key"]: flag for flag in answer.raise_for_status().json()["flags"]}
        for key, ours in expected[0].items():
            assert (flags[key]["variant"], flags[key]["value"]) == (
                *(ours.variation, dict(ours.params)),
            )
        etag = {"If-None-Match": answer.headers["ETag"]}
        assert (await client.post(path, json=body, headers=etag)).status_code == 304
        other = {"context": {**body["context"], "locale": "xx", "targetingKey": "other"}}
        assert (await client.post(path, json=other, headers=etag)).status_code == 200
        for wrong, code in (({}, "TARGETING_KEY_MISSING"), ({"context": 1}, "INVALID_CONTEXT")):
            refused = await client.post(f"{path}/plain", json=wrong)
            assert (refused.status_code, refused.json()["errorCode"]) == (400, code)
        missing = await client.post(f"{path}/nobody_made_this", json=body)
        assert (missing.status_code, missing.json()["errorCode"]) == (404, "FLAG_NOT_FOUND")


async def test_exposure_is_logged_for_who_is_in_and_not_when_told_otherwise(
    service: Service, kafka: Broker, defined: DefinitionSet
) -> None:
    async with service.client(Role.EVALUATE) as client:
        for unit in ("once-in", "once-out"):
            body = {"unit": unit, "experiment": "plain", "log": unit == "once-in"}
            assert (await client.post("/v1/assign", json=body)).json()["in_experiment"]
        body = {"unit": "once-none", "experiment": "uncovered"}
        assert not (await client.post("/v1/assign", json=body)).json()["in_experiment"]
    async with asyncio.timeout(30):
        while b"once-in" not in (units_logged := await logged(kafka)):
            pass
    assert not units_logged & {b"once-out", b"once-none"}


async def logged(kafka: Broker) -> set[bytes | None]:
    """The units of all exposures that Kafka holds."""
    consumer = AIOKafkaConsumer(
        EXPOSURES.name, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        found: set[bytes | None] = set()
        while fetched := await consumer.getmany(timeout_ms=1_000):
            found |= {record.key for records in fetched.values() for record in records}
        return found
    finally:
        await consumer.stop()
