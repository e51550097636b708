"""Answers are made once, for all at the same time, and again when what is under them changes."""

from __future__ import annotations

import asyncio

import pytest

from service.answer_cache import LONGEST_REST_SECONDS, AnswerCache, How


class House:
    """A mark and a clock that the test moves, and how often something was made."""

    def __init__(self, most_bytes: int = 100) -> None:
        self.mark, self.now, self.made = 1, 0.0, 0
        self.takes = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.cache: AnswerCache[int, str] = AnswerCache(
            *(self._look, lambda seen: seen, len),
            kept_seconds=1.0,
            busy_share=0.2,
            at_once=4,
            most_bytes=most_bytes,
            clock=lambda: self.now,
        )

    async def _look(self) -> int:
        return self.mark

    async def make(self, seen: int) -> str:
        await self.gate.wait()
        self.made += 1
        self.now += self.takes
        return f"answer {seen}"

    async def ask(self, key: str = "key") -> tuple[str, How]:
        return await self.cache.get(key, self.make)


async def test_answer_is_kept_for_a_time_and_then_as_long_as_the_data_are_the_same() -> None:
    house = House()
    assert await house.ask() == ("answer 1", How.MADE)
    assert await house.ask() == ("answer 1", How.KEPT)
    house.mark = 2
    assert await house.ask() == ("answer 1", How.KEPT)
    house.now = 1.5
    assert await house.ask() == ("answer 2", How.MADE)
    house.now = 3.0
    assert await house.ask() == ("answer 2", How.UNCHANGED)
    assert await house.ask() == ("answer 2", How.KEPT)
    assert await house.ask("another") == ("answer 2", How.MADE)


async def test_answer_that_takes_long_is_made_less_often() -> None:
    house = House()
    house.takes = 2.0
    await house.ask()
    house.mark, house.now = 2, 9.9
    assert await house.ask() == ("answer 1", How.KEPT)
    house.now = 10.0
    assert await house.ask() == ("answer 2", How.MADE)
    house.now = 20.0
    assert await house.ask() == ("answer 2", How.UNCHANGED)
    house.mark, house.now = 3, 21.0
    assert (await house.ask())[1] is How.MADE


async def test_failure_that_took_long_is_not_tried_again_at_once() -> None:
    house = House()
    tried = 0

    async def fail(_: int) -> str:
        nonlocal tried
        tried += 1
        house.now += 10.0
        raise RuntimeError("too long")

    for now, expected in ((0.0, 1), (49.9, 1), (50.0, 2)):
        house.now = max(house.now, now)
        with pytest.raises(RuntimeError, match="too long"):
            await house.cache.get("key", fail)
        assert tried == expected
    house.now += LONGEST_REST_SECONDS
    assert await house.ask() == ("answer 1", How.MADE)


async def test_nothing_is_kept_for_more_than_a_minute_because_it_took_long() -> None:
    house = House()
    house.takes = 100.0
    await house.ask()
    house.mark, house.now = 2, 100.0 + LONGEST_REST_SECONDS
    assert await house.ask() == ("answer 2", How.MADE)


async def test_answer_is_made_once_when_many_ask_at_the_same_time_and_the_first_leaves() -> None:
    house = House()
    house.gate.clear()
    asking = [asyncio.create_task(house.ask()) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    house.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [("answer 1", How.SHARED)] * 49
    assert house.made == 1


async def test_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    house = House()
    tried = 0

    async def fail(_: int) -> str:
        nonlocal tried
        tried += 1
        raise RuntimeError("no")

    asking = [house.cache.get("key", fail) for _ in range(3)]
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["no"] * 3
    assert tried == 1
    assert await house.ask() == ("answer 1", How.MADE)


async def test_cache_forgets_what_was_asked_for_longest_ago_when_it_is_full() -> None:
    house = House(most_bytes=16)
    for key in ("a", "b"):
        await house.ask(key)
    await house.ask("a")
    assert (await house.ask("c"))[1] is How.MADE
    assert (await house.ask("a"))[1] is How.KEPT
    assert (await house.ask("b"))[1] is How.MADE
    assert house.cache.bytes == 16


async def test_cache_keeps_nothing_when_it_may_hold_nothing() -> None:
    house = House(most_bytes=0)
    assert [(await house.ask())[1] for _ in range(2)] == [How.MADE, How.MADE]
    assert house.cache.bytes == 0


async def test_close_ends_what_is_under_way() -> None:
    house = House()
    house.gate.clear()
    asking = asyncio.create_task(house.ask())
    await asyncio.sleep(0)
    await house.cache.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
