"""Requests for assignments over Kafka: each is answered, whatever happens to the worker."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from anabranch.assignment import Assignment, Reason
from anabranch.definition_set import DefinitionSet
from anabranch.events import AssignmentRequest
from schemas.topics import ASSIGNMENT_REQUESTS
from streams.answer_encoding import event_id
from streams.assigning import SOURCE
from tests.live.asking import Asker, experiment, make_topic
from tests.live.poison import records_of
from tests.live.worker_fixture import Surroundings, WorkerProcess, wait_until

REQUESTS = "anabranch_worker_assignment_requests_total"


@pytest.fixture
def asker(around: Surroundings) -> Asker:
    return Asker(around)


def requests(prefix: str, count: int, **fields: Any) -> list[AssignmentRequest]:
    return [
        AssignmentRequest(
            request_id=f"{prefix}-{number}",
            unit=f"{prefix}-unit-{number}",
            attributes={"locale": ("en", "fr")[number % 2], "level": str(number % 30)},
            **fields,
        )
        for number in range(count)
    ]


async def wait_answers(
    asker: Asker, prefix: str, count: int, seconds: float = 60
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """By request and experiment; return when there are so many of these."""
    deadline = time.monotonic() + seconds
    while True:
        found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for answer in await asker.answers(prefix):
            found[answer["request_id"], answer["experiment"]].append(answer)
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, f"{len(found)} of {count} answers came"
        await asyncio.sleep(0.5)


def decided(definitions: DefinitionSet, experiment: str, request: AssignmentRequest) -> Assignment:
    attributes = {**request.attributes, "level": int(request.attributes["level"])}
    return definitions.assign(experiment, request.unit, attributes)


def assert_same(answer: dict[str, Any], expected: Assignment) -> None:
    assert answer["version"] == expected.version
    assert answer["variation"] == expected.variation
    assert json.loads(answer["params"]) == expected.params
    assert answer["exposure_id"] == expected.exposure_id
    assert answer["rationale"] == expected.rationale


async def test_worker_gives_the_answers_of_the_function_and_logs_exposures(
    around: Surroundings, worker: WorkerProcess, asker: Asker
) -> None:
    definitions = await asker.define(
        experiment("tone", targeting={"level": {"$lt": 20}}, dimensions=["level"]),
        experiment("pace", coverage=5_000),
        experiment("unborn", status="draft"),
    )
    asked = requests("plain", 400, experiments=("tone", "pace", "unborn", "nobody"))

    await asker.ask(asked)

    answers = await wait_answers(asker, "plain", 4 * len(asked))
    exposed = {}
    for request in asked:
        for key in request.experiments:
            (answer,) = answers[request.request_id, key]
            expected = decided(definitions, key, request)
            assert_same(answer, expected)
            if expected.in_experiment:
                exposed[request.unit, key] = (request, expected)
    by_reason = Counter(decided(definitions, k, r).reason for r in asked for k in r.experiments)
    assert by_reason.keys() >= {
        *(Reason.ASSIGNED, Reason.NOT_TARGETED, Reason.NOT_COVERED, Reason.NOT_RUNNING),
        Reason.UNKNOWN_EXPERIMENT,
    }
    found = [*await asker.exposures("tone"), *await asker.exposures("pace")]
    assert len(found) == len(exposed)
    for exposure in found:
        request, expected = exposed[exposure["unit"], exposure["experiment"]]
        assert exposure["event_id"] == event_id(request.request_id, expected.exposure_id)
        assert (exposure["variation"], exposure["source"]) == (expected.variation, SOURCE)
        assert exposure["locale"] == request.attributes["locale"]
        kept = {pair["name"]: pair["value"] for pair in exposure["attributes"]}
        level = {"level": request.attributes["level"]}
        assert kept == (level if exposure["experiment"] == "tone" else {})
    for reason, count in by_reason.items():
        assert worker.metric("anabranch_worker_assignments_total", reason=reason) >= count
    assert worker.get("/readyz").status_code == 200


async def test_request_without_experiments_gets_all_that_run(
    worker: WorkerProcess, asker: Asker
) -> None:
    await asker.define(
        experiment("first"), experiment("second"), experiment("third", status="stopped")
    )
    await asker.ask(requests("all", 20))
    answers = await wait_answers(asker, "all", 40)
    keys = {key for _, key in answers}
    assert {"first", "second"} <= keys
    assert "third" not in keys


async def test_change_of_a_definition_counts_for_the_next_request(
    worker: WorkerProcess, asker: Asker
) -> None:
    await asker.define(experiment("changing"))
    await asker.ask(requests("before", 5, experiments=("changing",)))
    before = await wait_answers(asker, "before", 5)
    assert {answer["version"] for (answer,) in before.values()} == {1}

    await asker.define(experiment("changing", version=2, status="stopped"))
    await asyncio.sleep(1)  # every reader has a change within a second
    await asker.ask(requests("after", 5, experiments=("changing",)))

    after = await wait_answers(asker, "after", 5)
    for (answer,) in after.values():
        assert (answer["version"], answer["variation"]) == (2, "control")
        assert answer["rationale"] == "the experiment is stopped"


async def test_bad_request_becomes_a_dead_letter_and_the_others_are_answered(
    around: Surroundings, worker: WorkerProcess, asker: Asker
) -> None:
    await asker.define(experiment("mixed"))
    good = requests("mixed", 10, experiments=("mixed",))
    records = [asker.encoded(request) for request in good]
    whole = records[0]
    assert whole.value is not None
    elsewhere = requests("elsewhere", 1, experiments=("mixed",), reply_to="exposures.v1")
    bad = [
        (whole._replace(value=whole.value[:30]), "truncated", "the bytes end before"),
        (whole._replace(value=b"{}"), "bad_magic", "should be 0"),
        (asker.encoded(elsewhere[0]), "reply_not_allowed", "ANABRANCH_WORKER__REPLY_TOPICS"),
    ]
    for at, (record, _, _) in zip((2, 5, 9), bad, strict=True):
        records.insert(at, record)

    offsets = await asker.put(records)

    await wait_answers(asker, "mixed", len(good))
    letters = {
        dict(record.headers)["dlq.offset"]: record
        for record in await records_of(around, f"{ASSIGNMENT_REQUESTS.name}.dead")
    }
    for at, (record, reason, says) in zip((2, 5, 9), bad, strict=True):
        letter = letters[str(offsets[at]).encode()]
        said = dict(letter.headers)
        assert (letter.key, letter.value) == (record.key, record.value)
        assert said["dlq.reason"].decode() == reason
        assert says in said["dlq.detail"].decode()
    assert await asker.answers("elsewhere") == []


async def test_answers_go_to_an_allowed_reply_topic(
    around: Surroundings, worker: WorkerProcess, asker: Asker, tmp_path: Path
) -> None:
    worker.stop()
    await make_topic(around, "lobby-answers")
    await asker.define(experiment("reply"))
    settings = {"REPLY_TOPICS": '["lobby-answers", "never-made"]', "INGEST": "false"}
    lonely = WorkerProcess(around, tmp_path, "lonely", **settings)
    around.clickhouse.stop()  # who only answers does not need it
    lonely.start()
    try:
        wait_until(lambda: lonely.get("/readyz").status_code == 200)
        asked = [
            *requests("lobby", 8, experiments=("reply",), reply_to="lobby-answers"),
            *requests("nowhere", 1, experiments=("reply",), reply_to="never-made"),
        ]
        dead = lonely.metric(REQUESTS, outcome="dead")
        await asker.ask(asked)
        wait_until(lambda: lonely.metric(REQUESTS, outcome="answered") >= 8)
        wait_until(lambda: lonely.metric(REQUESTS, outcome="dead") > dead)
        assert len(await asker.answers("lobby", "lobby-answers")) == 8
        assert await asker.answers("lobby") == []
        assert "clickhouse" not in lonely.get("/readyz").json()["dependencies"]
    finally:
        lonely.stop()
        around.clickhouse.start()


def wait_answering(worker: WorkerProcess) -> None:
    wait_until(lambda: worker.metric(REQUESTS, outcome="answered") > 0)


async def test_every_request_is_answered_alike_when_workers_are_killed(
    around: Surroundings, worker: WorkerProcess, asker: Asker, tmp_path: Path
) -> None:
    worker.stop()
    definitions = await asker.define(experiment("killed"))
    settings = {"BATCH_REQUESTS": 100, "INGEST": "false", "SESSION_TIMEOUT_SECONDS": 6}
    one, two = (WorkerProcess(around, tmp_path, name, **settings) for name in ("one", "two"))
    asked = requests("killed", 30_000, experiments=("killed",))
    await asker.ask(asked)
    try:
        for victim in (one, two, one):
            victim.start()
            wait_answering(victim)
            victim.signal(signal.SIGKILL)  # in the middle of answering
            victim.wait_end()
        one.start()
        two.start()
        answers = await wait_answers(asker, "killed", len(asked))
    finally:
        one.stop()
        two.stop()
    for request in asked:
        expected = decided(definitions, "killed", request)
        for answer in answers[request.request_id, "killed"]:
            assert_same(answer, expected)
    copies = Counter(exposure["event_id"] for exposure in await asker.exposures("killed"))
    assert len(copies) == len(asked)
    print(f"\n{copies.total() - len(copies)} copies of {len(asked)} exposures")
