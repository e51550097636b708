"""`anabranch doors`: one unit at every door; all of them have to give the same variation."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import fastavro
import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from anabranch.encoding import Encoder, without_logical_types
from anabranch.events import Assignment, AssignmentRequest
from anabranch.experiments import Experiments
from anabranch.registry import Registry, RegistryError
from schemas.topics import ASSIGNMENT_REQUESTS, ASSIGNMENTS
from service.errors import CommandError
from service.settings import DEFAULT_STATE, Settings, load_settings, read_credentials
from streams.connection import client_options

_SECONDS = 20.0


class Answer(NamedTuple):
    """What a door said; of who is in no experiment some doors say only that."""

    variation: str | None
    params: Mapping[str, Any] | None
    problem: str = ""


class Asked(NamedTuple):
    experiment: str
    unit: str
    attributes: Mapping[str, Any]
    url: str
    key: str
    settings: Settings


def doors(
    experiment: Annotated[str, Parameter(help="Key of the experiment.")],
    unit: Annotated[str, Parameter(help="The unit to decide for.")],
    *,
    attributes: Annotated[str, Parameter(help="What is known of it, as a JSON object.")] = "{}",
    json_: Annotated[bool, Parameter("--json", help="JSON instead of a table.")] = False,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Ask every door which variation a unit gets: in process (the SDK), over HTTP, over Kafka, by
    GrowthBook's SDK and by OpenFeature's protocol. No exposure is logged but that of Kafka's door
    and OpenFeature's. Exit status 1 where they differ, or one does not answer."""
    asked = _asked(experiment, unit, attributes, state)
    answers = asyncio.run(_ask_all(asked))
    variations = {answer.variation for answer in answers.values()}
    agree = len(variations) == 1 and not any(answer.problem for answer in answers.values())
    if json_:
        told = {door: answer._asdict() for door, answer in answers.items()}
        print(json.dumps({"agree": agree, "doors": told}))
    else:
        _show(asked, answers, agree)
    if not agree:
        sys.exit(1)


def _asked(experiment: str, unit: str, attributes: str, state: Path) -> Asked:
    try:
        given = json.loads(attributes)
    except ValueError as error:
        raise CommandError(f"--attributes is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise CommandError('--attributes must be a JSON object, such as \'{"locale": "en"}\'')
    settings = load_settings(state=state)
    credentials = settings.credentials or state / "credentials.json"
    key = read_credentials(credentials).get("evaluate") if credentials.exists() else None
    if key is None:
        raise CommandError(
            f"there is no key of the role evaluate in {credentials}: start the stack (`make up`), "
            "or name its folder with --state"
        )
    service = settings.service
    return Asked(experiment, unit, given, f"http://{service.host}:{service.port}", key, settings)


async def _ask_all(asked: Asked) -> dict[str, Answer]:
    doors: Mapping[str, Callable[[Asked], Awaitable[Answer]]] = {
        "HTTP, POST /v1/assign": _over_http,
        "in process, the SDK": _in_process,
        "Kafka, assignment-requests.v1": _over_kafka,
        "GrowthBook's Python SDK": _by_growthbook,
        "OpenFeature, OFREP": _by_openfeature,
    }
    return {name: await _answered(door, asked) for name, door in doors.items()}


async def _answered(door: Callable[[Asked], Awaitable[Answer]], asked: Asked) -> Answer:
    try:
        async with asyncio.timeout(_SECONDS):
            return await door(asked)
    except TimeoutError:
        return Answer(None, None, f"no answer in {_SECONDS:.0f} s")
    except ImportError as error:
        return Answer(None, None, f"the package {error.name} is not installed here")
    except (httpx.HTTPError, KafkaError, RegistryError, OSError) as error:
        return Answer(None, None, str(error) or type(error).__name__)


async def _post(asked: Asked, path: str, body: Mapping[str, Any]) -> Any:
    async with httpx.AsyncClient(base_url=asked.url, timeout=_SECONDS) as client:
        headers = {"Authorization": f"Bearer {asked.key}"}
        answer = await client.post(path, json=body, headers=headers)
    found = answer.json()
    if answer.is_error:
        raise OSError(found.get("detail") or found.get("errorDetails") or answer.text)
    return found


async def _over_http(asked: Asked) -> Answer:
    body = {"unit": asked.unit, "experiment": asked.experiment, "attributes": asked.attributes}
    found = await _post(asked, "/v1/assign", {**body, "log": False})
    return Answer(found["variation"], found["params"])


async def _by_openfeature(asked: Asked) -> Answer:
    context = {**asked.attributes, "targetingKey": asked.unit}
    path = f"/ofrep/v1/evaluate/flags/{asked.experiment}"
    found = await _post(asked, path, {"context": context})
    return Answer(found["variant"], found["value"])


async def _in_process(asked: Asked) -> Answer:
    def decide() -> Answer:
        with Experiments.from_url(asked.url, asked.key) as experiments:
            experiments.wait(_SECONDS)
            found = experiments.assign(asked.experiment, asked.unit, asked.attributes, log=False)
        return Answer(found.variation, dict(found.params))

    return await asyncio.to_thread(decide)


async def _by_growthbook(asked: Asked) -> Answer:
    import growthbook  # not ours to need: whoever has it sees its answer, too

    async with httpx.AsyncClient(timeout=_SECONDS) as client:
        answer = await client.get(f"{asked.url}/api/features/{asked.key}")
    payload = answer.raise_for_status().json()
    kinds = ("session", "player", "user", "device", "id")
    attributes = {**dict.fromkeys(kinds, asked.unit), **asked.attributes}
    sdk: Any = growthbook.GrowthBook(
        attributes=attributes, features=payload["features"], savedGroups=payload["savedGroups"]
    )
    found = sdk.eval_feature(asked.experiment)
    sdk.destroy()
    result = found.experimentResult
    if result is not None and result.inExperiment:
        return Answer(result.key, found.value)
    # Who is not in gets the default, whose name the payload does not say: it is the first.
    rules = payload["features"].get(asked.experiment, {}).get("rules") or [{}]
    names = [one["key"] for rule in rules[-1:] for one in rule.get("meta", [])]
    forced = str(found.ruleId or "").removeprefix("forced:") if found.ruleId else ""
    return Answer(forced or (names[0] if names else None), found.value)


async def _over_kafka(asked: Asked) -> Answer:
    settings = asked.settings
    registry = Registry(settings.registry)
    subject = f"{ASSIGNMENT_REQUESTS.name}-value"
    schema_id = await asyncio.to_thread(registry.id_of, subject, AssignmentRequest.SCHEMA)
    request = AssignmentRequest(
        request_id=f"doors-{secrets.token_hex(8)}",
        unit=asked.unit,
        attributes={
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in asked.attributes.items()
        },
        experiments=(asked.experiment,),
    )
    key, value = Encoder(AssignmentRequest, schema_id).encode(request)
    options = client_options(settings.kafka)
    schema = fastavro.parse_schema(without_logical_types(json.loads(Assignment.SCHEMA)))
    consumer = AIOKafkaConsumer(ASSIGNMENTS.name, auto_offset_reset="latest", **options)
    async with consumer, AIOKafkaProducer(**options) as producer:
        await consumer.seek_to_end()
        for place in consumer.assignment():
            await consumer.position(place)
        await producer.send_and_wait(ASSIGNMENT_REQUESTS.name, value, key)
        async for record in consumer:
            found: Any = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), schema, None)
            if found["request_id"] == request.request_id:
                return Answer(found["variation"], json.loads(found["params"]))
    raise AssertionError("a consumer's records do not end")


def _show(asked: Asked, answers: Mapping[str, Answer], agree: bool) -> None:
    console = Console()
    table = Table("door", "variation", "parameters", title=f"{asked.experiment}, {asked.unit}")
    for door, answer in answers.items():
        shown = "" if answer.params is None else json.dumps(dict(answer.params))
        table.add_row(door, answer.variation or "", answer.problem or shown)
    console.print(table)
    console.print("all doors agree" if agree else "the doors do not agree")
