"""`anabranch doors` on a whole stack: every door, and what is said when one is shut."""

from __future__ import annotations

import json
from pathlib import Path

from tests.live.stack_fixture import WholeStack, anabranch


def test_every_door_gives_a_unit_the_same_variation(stack: WholeStack) -> None:
    state = ("--state", stack.state)
    variations = ("--variation", "control", "--variation", 'warm={"tone": "warm"}')
    made = anabranch("experiments", "create", "doors_agree", *variations, *state)
    assert made.returncode == 0, made.stderr
    assert anabranch("experiments", "start", "doors_agree", *state).returncode == 0
    seen = set()
    for unit in ("s1", "s2", "s3", "s4"):
        told = anabranch("doors", "doors_agree", unit, "--json", *state)
        assert told.returncode == 0, told.stdout + told.stderr
        answers = json.loads(told.stdout)["doors"]
        assert len(answers) == 5
        seen |= {answer["variation"] for answer in answers.values()}
    assert seen == {"control", "warm"}


def test_doors_that_have_no_answer_say_why_and_count_as_disagreement(
    stack: WholeStack,
) -> None:
    told = anabranch("doors", "nobody_made_this", "s1", "--state", stack.state)
    assert told.returncode == 1
    assert "no experiment has the key" in told.stdout
    assert "the doors do not agree" in told.stdout


def test_attributes_that_are_no_object_are_refused(stack: WholeStack, tmp_path: Path) -> None:
    refused = anabranch("doors", "any", "s1", "--attributes", "[1]", "--state", stack.state)
    assert refused.returncode != 0
    assert "must be a JSON object" in refused.stderr
    unknown = anabranch("doors", "any", "s1", "--state", str(tmp_path))
    assert "no key of the role evaluate" in unknown.stderr
