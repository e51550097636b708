"""What the command refuses, and in which words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deploy.commands.rebuild import rebuild, refuse_a_second, refuse_too_little_room
from service.errors import CommandError
from streams.rebuild.fresh import Said, State, this_process
from streams.rebuild.live_tables import Room
from streams.rebuild.planning import Planned


@pytest.mark.parametrize("state", [State.UNFINISHED, State.SWAPPING])
def test_command_refuses_beside_a_rebuild_that_showed_life_a_moment_ago(state: State) -> None:
    with pytest.raises(CommandError, match=r"another-host/1\): its last sign of life is 3 s old"):
        refuse_a_second(Said(state, "id", silent_seconds=3.2, by="another-host/1"))


def test_command_knows_the_processes_of_its_own_host() -> None:
    said = Said(State.UNFINISHED, "id", silent_seconds=3.2, by=this_process())
    with pytest.raises(CommandError, match="seems to be running"):
        refuse_a_second(said)
    host, _, _ = said.by.rpartition("/")
    refuse_a_second(replace(said, by=f"{host}/{1 << 30}"))


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(Said(State.UNFINISHED, "id", silent_seconds=60.0), id="one that fell silent"),
        pytest.param(Said(State.DONE, "id", silent_seconds=0.5), id="one that has just ended well"),
        pytest.param(Said(State.ABSENT), id="none"),
    ],
)
def test_command_takes_no_ended_rebuild_for_a_running_one(said: Said) -> None:
    refuse_a_second(said)


def test_command_refuses_when_there_is_too_little_room() -> None:
    planned = Planned({}, {}, Room(needed_bytes=900_000_000, free_bytes=1_000_000_000), ())
    with pytest.raises(CommandError, match=r"about 1,080 MB .* has 1,000 MB: make room"):
        refuse_too_little_room(planned)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"from_": "EARLIEST", "clean": True}, id="two at once"),
        pytest.param({"continue_": True, "clean": True}, id="two others"),
    ],
)
def test_command_wants_to_be_told_one_thing(given: dict[str, object]) -> None:
    with pytest.raises(CommandError, match="give one of"):
        rebuild(**given)  # type: ignore[arg-type]
