"""`anabranch report` as a person types it, on the real service."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import time
from pathlib import Path

from service.access import Role
from tests.live.applied_events import EventApplier
from tests.live.applied_events import events as events
from tests.live.processes import ANABRANCH
from tests.live.reported_experiment import DAY_MS, experiment, told
from tests.live.service_fixture import Service


def run(service: Service, folder: Path, *words: str, status: int = 0) -> str:
    key_file = folder / "key"
    key_file.write_text(service.keys[Role.VIEWER])
    where = ("--url", service.url, "--key-file", str(key_file))
    done = subprocess.run(
        [*ANABRANCH, "report", *words, *where], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout


async def test_report_shows_the_decision_first_then_what_it_rests_on(
    service: Service, events: EventApplier, tmp_path: Path
) -> None:
    key = await experiment(service)
    begin_ms = int(time.time() * 1000) // DAY_MS * DAY_MS - 3 * DAY_MS
    await told(key, begin_ms).put(events)
    shown = run(service, tmp_path, key, "--by", "plan")
    lines = shown.splitlines()
    assert lines[0] == f"{key}, running, version 2"
    places = [
        shown.index(text) for text in ("health: ", "exposures", "output_tokens, ", "turn_ms, ")
    ]
    decision = min(shown.find(said) for said in ("KEEP RUNNING", "NO DECISION") if said in shown)
    assert [decision, *places] == sorted([decision, *places])
    for text in ("8 units were seen in more than one variation", "●", "plan free", "plan paid"):
        assert text in shown
    answer = json.loads(run(service, tmp_path, key, "--json", "--metric", "acts"))
    assert [metric["metric"] for metric in answer["metrics"]] == ["acts"]
    rows = list(csv.DictReader(io.StringIO(run(service, tmp_path, key, "--csv"))))
    assert {row["variation"] for row in rows} == {"control", "warm"}
    assert answer["id"] in run(service, tmp_path, key, "--format", "table", "--metric", "acts")


async def test_wrong_words_are_told_what_would_be_right(service: Service, tmp_path: Path) -> None:
    key = await experiment(service)
    assert "no unit has been exposed yet" in run(service, tmp_path, key)
    for words, said in (
        ((key[:-1],), f"did you mean {key}?"),
        ((key, "--metric", "turn_m"), "did you mean turn_ms?"),
        ((key, "--by", "country"), "has segments by locale, plan"),
        ((key, "--from", "yesterday"), "from"),
        ((key, "--json", "--csv"), "two formats; choose one"),
    ):
        assert said in run(service, tmp_path, *words, status=1)
