"""Rounds of faults; after each, everything is looked at. What is printed says what was done."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from deploy.main import COMMANDS
from tests.chaos.aggregates import aggregate_differences
from tests.chaos.comparing import (
    applied_up_to,
    batch_differences,
    restatement_differences,
    slice_differences,
    total_differences,
)
from tests.chaos.events import EVENT_TOPICS, Mixture, schema_ids
from tests.chaos.faults import Fault, chosen
from tests.chaos.house import GRACE_SECONDS, House
from tests.chaos.log_oracle import LogOracle
from tests.chaos.sending import Sender
from tests.live.processes import ANABRANCH

SETTLES_WITHIN_SECONDS = 120.0
_LONGEST_LOOK_AT_SUMS_SECONDS = 3.0
_SUMS_EVERY = 5


class Run:
    """`differences` is empty as long as all is well."""

    def __init__(self, house: House, *, seed: int, rate: float, quiet: bool = False) -> None:
        self.house = house
        self._choose = random.Random(seed)
        self._quiet = quiet
        self._begun = time.monotonic()
        ids = schema_ids(house.service.url)
        self.sender = Sender(house.kafka.bootstrap, Mixture(seed, rate, ids), rate, seed)
        self.oracle = LogOracle(house.kafka.bootstrap, EVENT_TOPICS, house.partitions)
        self.differences: list[str] = []
        self.faults: Counter[str] = Counter()
        self.settled_seconds: list[float] = []
        self._sums_seconds = 0.0
        self._rounds = 0

    def __enter__(self) -> Run:
        self.sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.sender.stop()
        self.oracle.close()

    def for_seconds(self, seconds: float) -> None:
        """Random rounds until time is up, or something is wrong."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.differences:
            time.sleep(self._choose.uniform(0.5, 3))
            self.round(chosen(self._choose))

    def round(self, faults: Sequence[Fault]) -> None:
        self._rounds += 1
        names = " + ".join(fault.name for fault in faults)
        self._say(f"{names} ...")
        self.faults.update(fault.name for fault in faults)
        self._break(faults)
        self.settle_and_look()

    def _break(self, faults: Sequence[Fault]) -> None:
        """Side by side: each goes on when its own time is up."""
        going = [(0.0, fault.run(self.house, self._choose)) for fault in faults]
        while going:
            going.sort(key=lambda pair: pair[0])
            due, fault = going.pop(0)
            time.sleep(max(0.0, due - time.monotonic()))
            hold = next(fault, None)
            if hold is not None:
                going.append((time.monotonic() + hold, fault))

    def settle_and_look(self, *, whole: bool = False) -> None:
        self.house.heal()
        begun = time.monotonic()
        self.differences += self.house.revive()
        time.sleep(self._choose.uniform(0, 1.5))
        self.sender.pause()
        slices = self.oracle.read_on()
        unsettled = self._unsettled(begun + SETTLES_WITHIN_SECONDS)
        settled = time.monotonic() - begun
        self.settled_seconds.append(settled)
        self.differences += unsettled
        if not unsettled:
            asked = self.house.asked
            for place, slice_ in slices.items():
                self.differences += slice_differences(asked, place, slice_)
            self.differences += total_differences(asked, self.oracle.totals)
            self.differences += batch_differences(asked, self.oracle.totals)
            self.differences += restatement_differences(asked, GRACE_SECONDS)
            if whole or self.differences or self._sums_are_due():
                looked = time.monotonic()
                self.differences += aggregate_differences(asked)
                self._sums_seconds = time.monotonic() - looked
            if whole:
                self.differences += self._verified()
        self.sender.go_on()
        good = sum(total.good for total in self.oracle.totals.values())
        dead = sum(total.dead for total in self.oracle.totals.values())
        verdict = "DIFFERENT" if self.differences else "all well"
        self._say(f"  settled in {settled:.1f} s: {good:,} events, {dead:,} dead, {verdict}")
        for difference in self.differences:
            self._say(f"  ! {difference}")

    def _verified(self) -> Iterator[str]:
        """The command that people use has to say the same as this harness does."""
        if not any(command.name == "verify" for command in COMMANDS):
            return
        answer = subprocess.run(
            [*ANABRANCH, "verify", "--state", str(self.house.folder)],
            env=self.house.around.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if answer.returncode:
            yield f"anabranch verify: {answer.returncode}\n{answer.stdout}{answer.stderr}"

    def _sums_are_due(self) -> bool:
        return self._sums_seconds < _LONGEST_LOOK_AT_SUMS_SECONDS or self._rounds % _SUMS_EVERY == 0

    def _unsettled(self, deadline: float) -> list[str]:
        """Empty once everything is applied that the log holds."""
        while True:
            applied = applied_up_to(self.house.asked)
            behind = {
                place: (applied.get(place, -1), total.last)
                for place, total in self.oracle.totals.items()
                if total.last > applied.get(place, -1)
            }
            ended = list(self.house.revive())
            if ended or not behind:
                return ended
            if time.monotonic() > deadline:
                return list(self._stuck(behind))
            time.sleep(0.1)

    def _stuck(self, behind: object) -> Iterator[str]:
        yield f"stuck after {SETTLES_WITHIN_SECONDS:g} s, applied and log end: {behind}"
        for worker in self.house.workers:
            last = "\n    ".join(worker.log_of_this_life.splitlines()[-8:])
            yield f"{worker.name}: {worker.state()}\n    {last}"

    def summary(self) -> str:
        seconds = time.monotonic() - self._begun
        totals = self.oracle.totals.values()
        slowest = max(self.settled_seconds, default=0.0)
        lines = [
            f"{seconds:.0f} s, {self._rounds} rounds, {sum(self.faults.values())} faults, "
            f"{sum(t.good for t in totals):,} events, {sum(t.dead for t in totals):,} dead letters,"
            f" {len(self.differences)} differences; settled within {slowest:.1f} s",
            *(f"  {count:4}  {name}" for name, count in self.faults.most_common()),
        ]
        return "\n".join(lines)

    def _say(self, text: str) -> None:
        if not self._quiet:
            sys.stdout.write(f"[{time.monotonic() - self._begun:7.1f} s] {text}\n")
            sys.stdout.flush()
