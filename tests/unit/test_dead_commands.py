"""How dead letters are named, chosen and shown."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import pytest

from anabranch.registry import Registry
from anabranch.settings import RegistrySettings
from deploy.main import build_app
from schemas.releases import Release
from service.commands.dead.printing import hex_lines, line, shortened
from service.commands.dead.selecting import Filters, place, selection
from service.errors import CommandError
from sinks.dead_letters import Place
from streams.decoding import Decoder, UndecodableError


def test_hex_lines_show_bytes_as_hexdump_does() -> None:
    assert hex_lines(bytes(range(0x1B, 0x2F)), 100) == [
        "00000000  1b 1c 1d 1e 1f 20 21 22 23 24 25 26 27 28 29 2a  |..... !\"#$%&'()*|",
        "00000010  2b 2c 2d 2e                                      |+,-.|",
    ]


def test_hex_lines_say_how_much_is_left() -> None:
    *lines, last = hex_lines(b"x" * 1_000_000, 32)
    assert len(lines) == 2
    assert last.startswith("and 999,968 bytes more")


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17])
def test_hex_lines_have_every_byte_of_a_short_value(size: int) -> None:
    shown = "".join(row[10:58].replace(" ", "") for row in hex_lines(b"\xab" * size, 100))
    assert bytes.fromhex(shown) == b"\xab" * size


def test_line_has_escapes_for_what_a_terminal_obeys_and_no_markup() -> None:
    assert line("[red]a\x1b[2J\u202eb").plain == "[red]a\\x1b[2J\\u202eb"


def test_shortened_keeps_what_fits() -> None:
    assert [shortened("abcd", length) for length in (5, 4, 3)] == ["abcd", "abcd", "ab…"]


def test_place_reads_what_list_shows() -> None:
    named = Place("turn-metrics.v1", 3, 1234)
    assert place(str(named)) == named


@pytest.mark.parametrize(
    "text", ["", "turn-metrics.v1", "turn-metrics.v1/1", "turn-metrics.v1/1/2/3", "a/1/2"]
)
def test_place_refuses_what_is_none(text: str) -> None:
    with pytest.raises(CommandError):
        place(text)


@pytest.mark.parametrize("number", ["-1", "x", "", "1.0", "٣", "9" * 30, str(2**63)])
def test_place_refuses_an_offset_that_is_none(number: str) -> None:
    with pytest.raises(CommandError, match="turn-metrics"):
        place("turn-metrics.v1/0/{number}")


def test_selection_leaves_marked_letters_out_unless_they_are_named() -> None:
    assert not selection(Filters()).marked
    assert selection(Filters(all_=True)).marked
    assert selection(Filters(), [Place("turn-metrics.v1", 0, 1)]).marked


def test_selection_reads_times_as_tail_does() -> None:
    chosen = selection(Filters(since="2026-01-31T12:00:00Z", until="2h"))
    assert chosen.since == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert chosen.until is not None
    assert timedelta(hours=2) <= datetime.now(UTC) - chosen.until < timedelta(hours=3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list", "--topic", "nonsense"), "'nonsense' is none of exposures.v1, "),
        (("list", "--reason", "bad"), "'bad' is none of empty, bad_magic, "),
        (("list", "--since", "soon"), "--since 'soon' is neither"),
        (("list", "--until", "soon"), "--until 'soon' is neither"),
        (("list", "--since", "1h", "--until", "2h"), "--since 1h is not before --until 2h"),
        (("list", "--limit", "0"), "--limit is 0; it must be 1 or more"),
        (("list", "--partition", "-1"), "--partition is -1; it must lie between"),
        (("list", "--offset", str(2**63)), f"--offset is {2**63}; it must lie between"),
        (("show", "x"), "'x' is not TOPIC/PARTITION/OFFSET"),
        (("show", "x/0/1"), "'x' is none of"),
        (("show", "turn-metrics.v1/0/x"), "'x' is no number"),
        (("show", "turn-metrics.v1", "0"), "name one dead letter"),
        (("drop", f"turn-metrics.v1/{2**31}/1", "--yes"), "it must lie between 0 and"),
        (("replay", "x"), "'x' is not TOPIC/PARTITION/OFFSET"),
        (("replay", "--limit", "-1"), "--limit is -1"),
        (("drop", "--reason", "bad"), "'bad' is none of"),
    ],
)
def test_dead_says_what_is_wrong_with_its_input_before_it_asks_anybody(
    arguments: tuple[str, ...], says: str
) -> None:
    with pytest.raises(CommandError, match=re.escape(says)):
        build_app()(["dead", *arguments], exit_on_error=False)


def test_decoder_has_a_reason_when_a_schema_is_not_of_a_record() -> None:
    own = tuple(
        Release("x-value", 1, number, text)
        for number, text in enumerate(['"string"', '{"type":"record","name":"A"}', "{"], 1)
    )
    decoder = Decoder(Registry(RegistrySettings(), opener=_refuse, sleep=_rest), own)
    for release in own:
        with pytest.raises(UndecodableError, match=f"schema {release.id} is not of a record"):
            decoder.decode(b"\0" + release.id.to_bytes(4, "big"))


def _refuse(*_: object) -> NoReturn:
    raise OSError("nobody is there")


def _rest(_: float) -> None:
    pass
