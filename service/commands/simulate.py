"""`anabranch simulate`: realistic traffic with known effects, through the SDK."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from anabranch import EmitterSettings, Event, SyncEmitter
from anabranch.errors import AnabranchError
from service.commands.experiments.showing import path_of
from service.commands.keys.calling import Target
from service.errors import CommandError
from service.pacing import TokenBucket
from service.settings import DEFAULT_STATE, load_settings
from service.traffic import EXPERIMENTS, Traffic

WAKE_SECONDS = 0.01
PROGRESS_SECONDS = 1.0


def simulate(
    *,
    rate: Annotated[float, Parameter(help="Events a second.", validator=Number(gt=0))] = 100,
    seconds: Annotated[
        float | None, Parameter(help="End after so long.", validator=Number(gt=0))
    ] = None,
    events: Annotated[
        int | None, Parameter(help="End after so many events.", validator=Number(gt=0))
    ] = None,
    seed: Annotated[int, Parameter(help="The same seed makes the same players.")] = 1,
    experiment: Annotated[
        tuple[str, ...], Parameter(help="Only this demo experiment; may be repeated.")
    ] = EXPERIMENTS,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Emit realistic traffic of a turn-based game until Ctrl-C, --seconds or --events.

    Players, sessions and turns with two experiments whose effects are known. npc_tone, by session,
    warm against control: output_tokens +6 %, turn_ms -2 %, completed sessions +10 % (0.40 to 0.44).
    hint_budget, by player, more against control: no effect. The growth loop share_story has
    K = 0.30. Two percent of the turns come late, by five minutes on average. Exposures have the
    versions that the experiments have at the start.
    """
    unknown = [name for name in experiment if name not in EXPERIMENTS]
    if unknown:
        raise CommandError(
            f"--experiment {unknown[0]}: there are the demo experiments {', '.join(EXPERIMENTS)}"
        )
    settings = load_settings(state=state)
    versions = {key: _version(Target(state=state), key) for key in experiment}
    traffic = Traffic(seed, time.time_ns() // 1_000_000, rate, experiment, versions)
    # A queue of some seconds of traffic, so that Kafka's pauses do not show as drops.
    queue = EmitterSettings(capacity=max(100_000, int(rate * 10)), flush_on_sigterm=False)
    try:
        emitter = SyncEmitter(settings.kafka, settings.registry, queue)
    except AnabranchError as error:
        raise CommandError(str(error)) from error
    run = Run(emitter, traffic.events(), rate, seconds, events)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: run.stop.set())
    undelivered = run.until_the_end()
    if undelivered or emitter.counters.delivered < run.made:
        raise CommandError(
            f"{run.made - emitter.counters.delivered:,} of {run.made:,} events did not reach Kafka "
            f"at {settings.kafka.bootstrap}"
        )


def _version(target: Target, experiment: str) -> int:
    """As services would have it; 1 where nobody has defined the experiment, or nobody answers."""
    try:
        return int(target.ask("GET", path_of(experiment))["version"])
    except CommandError:
        return 1


@dataclass(slots=True)
class Run:
    emitter: SyncEmitter
    source: Iterator[Event]
    rate: float
    seconds: float | None
    events: int | None
    stop: threading.Event = field(default_factory=threading.Event)
    made: int = 0

    def until_the_end(self) -> int:
        """Emit, tell, deliver. Returns how many events were left undelivered."""
        begun = shown = time.monotonic()
        bucket = TokenBucket(self.rate, begun)
        while not self.stop.is_set():
            now = time.monotonic()
            self._emit(bucket.take(now))
            if self._is_over(now - begun):
                break
            if now - shown >= PROGRESS_SECONDS:
                shown = now
                self._show(now - begun, bucket.missed)
            self.stop.wait(WAKE_SECONDS)
        took = time.monotonic() - begun
        left = self.emitter.close(timeout=30)
        self._show(took, bucket.missed, last=True)
        return left

    def _is_over(self, seconds: float) -> bool:
        if self.events is not None and self.made >= self.events:
            return True
        return self.seconds is not None and seconds >= self.seconds

    def _emit(self, wanted: int) -> None:
        if self.events is not None:
            wanted = min(wanted, self.events - self.made)
        emit = self.emitter.emit
        for event in islice(self.source, wanted):
            emit(event)
        self.made += wanted

    def _show(self, seconds: float, missed: float, *, last: bool = False) -> None:
        counters = self.emitter.counters
        dropped = sum(counters.dropped.values()) + sum(counters.invalid.values())
        sys.stdout.write(
            f"{'total' if last else 'so far'}: {self.made:,} events in {seconds:.1f} s "
            f"({self.made / max(seconds, 0.001):,.0f}/s), {counters.delivered:,} delivered, "
            f"{self.emitter.queued:,} on their way, {dropped:,} dropped, "
            f"{missed:,.0f} not made in time\n"
        )
        sys.stdout.flush()
