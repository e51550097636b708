"""`anabranch verify` as a user types it, on a whole stack."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import clickhouse_connect

from tests.live.processes import ANABRANCH
from tests.live.stack_fixture import WholeStack, anabranch, eventually


def verified(stack: WholeStack) -> tuple[int, dict[str, Any]]:
    answer = anabranch("verify", "--json", "--state", stack.state)
    assert answer.stdout, answer.stderr
    said: dict[str, Any] = json.loads(answer.stdout)
    return answer.returncode, said


def test_verify_is_green_beside_ingestion_and_names_a_batch_that_is_gone(
    stack: WholeStack,
) -> None:
    command = [*ANABRANCH, "simulate", "--rate", "500", "--state", str(stack.state)]
    traffic = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: verified(stack)[1]["checked"].get("turn_metrics", 0) > 1000, 90)
        status, said = verified(stack)
        assert (status, said["equal"], said["differences"]) == (0, True, [])
        assert said["kafka_problem"] is None
    finally:
        traffic.terminate()
        traffic.wait(30)
    eventually(lambda: verified(stack)[1]["pending"] == 0, 60)

    password = json.loads((stack.state / "credentials.json").read_text())["clickhouse"]
    with clickhouse_connect.get_client(
        dsn=stack.record["clickhouse"], password=password, database="anabranch"
    ) as client:
        ((partition, first, last),) = client.query(
            "SELECT partition, first, last FROM batches WHERE topic = 'turn-metrics.v1' "
            "ORDER BY rows DESC LIMIT 1"
        ).result_rows
        client.command(
            f"ALTER TABLE batches DELETE WHERE topic = 'turn-metrics.v1' "
            f"AND partition = {partition} AND first = {first}",
            settings={"mutations_sync": 1},
        )
    status, said = verified(stack)
    assert (status, said["equal"]) == (1, False)
    places = [json.dumps(difference) for difference in said["differences"]]
    assert any(f"{first}" in place and f"{last}" in place for place in places), places
    shown = anabranch("verify", "--state", stack.state)
    assert shown.returncode == 1
    assert f"topic turn-metrics.v1, partition {partition}" in shown.stdout
    assert "differences in" in shown.stdout
