"""What breaks. Each fault is a generator: it breaks something, says how long that may last, and is
then gone on with to put it right. Two may run at once, as long as they break different parts."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.chaos.crashing_worker import STEPS
from tests.chaos.house import SESSION_SECONDS, ChaosWorker, House

Break = Callable[[House, random.Random], Iterator[float]]

REFUSALS = (
    159,  # timeout
    164,  # read-only
    202,  # too many queries
    241,  # memory limit
    242,  # table is read-only
    243,  # no space
    252,  # too many parts
)
_CRASHES_WITHIN_SECONDS = 6


class Fault(NamedTuple):
    name: str
    part: str
    """What it breaks: two of the same are not combined."""
    run: Break


def _one(house: House, choose: random.Random) -> ChaosWorker:
    running = [worker for worker in house.workers if worker.runs]
    return choose.choice(running or house.workers)


def worker_killed(house: House, choose: random.Random) -> Iterator[float]:
    worker = _one(house, choose)
    worker.kill()
    yield choose.choice((0, 0.5, SESSION_SECONDS + 2))
    worker.start()


def worker_crashes_at_a_step(house: House, choose: random.Random) -> Iterator[float]:
    yield from crash_at(choose.choice(STEPS), choose.randrange(1, 4))(house, choose)


def crash_at(step: str, times: int) -> Break:
    def crash(house: House, choose: random.Random) -> Iterator[float]:
        worker = _one(house, choose)
        worker.kill()
        worker.crash_at(step, times)
        worker.start()
        deadline = time.monotonic() + _CRASHES_WITHIN_SECONDS
        while worker.runs and time.monotonic() < deadline:
            yield 0.2
        worker.kill()
        yield choose.choice((0, SESSION_SECONDS + 1))
        worker.start()

    return crash


def worker_frozen(house: House, choose: random.Random) -> Iterator[float]:
    worker = _one(house, choose)
    worker.freeze()
    yield SESSION_SECONDS + choose.uniform(1, 4)
    worker.thaw()


def worker_frozen_briefly(house: House, choose: random.Random) -> Iterator[float]:
    worker = _one(house, choose)
    worker.freeze()
    yield SESSION_SECONDS * choose.uniform(0.2, 0.8)
    worker.thaw()


def worker_doubled(house: House, choose: random.Random) -> Iterator[float]:
    """Another one under its name, while it seemed to be gone; then it is back."""
    old = _one(house, choose)
    old.freeze()
    new = ChaosWorker(house, old.name)
    house.workers[house.workers.index(old)] = new
    new.start()
    yield choose.uniform(0, SESSION_SECONDS + 2)
    old.thaw()
    yield 3.0
    old.kill()


def worker_leaves(house: House, choose: random.Random) -> Iterator[float]:
    worker = _one(house, choose)
    worker.stop()
    yield choose.uniform(0, 3)
    worker.start()


def worker_joins(house: House, choose: random.Random) -> Iterator[float]:
    guest = ChaosWorker(house, f"guest-{choose.randrange(1000)}")
    guest.start()
    yield choose.uniform(1, 5)
    if choose.random() < 0.5:
        guest.stop()
    else:
        guest.kill()


def rolling_restart(house: House, choose: random.Random) -> Iterator[float]:
    for worker in house.workers:
        worker.stop()
        worker.start()
        yield choose.uniform(0, 1)


def broker_restarted(house: House, choose: random.Random) -> Iterator[float]:
    house.kafka.stop()
    yield choose.choice((0, 2, 5))
    house.kafka.start()


def broker_killed(house: House, choose: random.Random) -> Iterator[float]:
    house.kafka.kill()
    yield choose.choice((0, 2, 5))
    house.kafka.start()


def broker_away_for_long(house: House, choose: random.Random) -> Iterator[float]:
    house.kafka.kill()
    yield 25.0
    house.kafka.start()


def broker_frozen(house: House, choose: random.Random) -> Iterator[float]:
    """It answers late what was asked before: requests that their senders gave up."""
    os.kill(house.kafka.pid, signal.SIGSTOP)
    yield choose.uniform(1, SESSION_SECONDS + 4)
    os.kill(house.kafka.pid, signal.SIGCONT)


def clickhouse_frozen(house: House, choose: random.Random) -> Iterator[float]:
    """Likewise: an insert given up and repeated is then there twice at once."""
    os.kill(house.clickhouse.pid, signal.SIGSTOP)
    yield choose.uniform(1, 8)
    os.kill(house.clickhouse.pid, signal.SIGCONT)


def clickhouse_killed(house: House, choose: random.Random) -> Iterator[float]:
    house.clickhouse.kill()
    yield choose.choice((0, 1, 6))
    house.clickhouse.start()


def clickhouse_killed_twice(house: House, choose: random.Random) -> Iterator[float]:
    for _ in range(2):
        house.clickhouse.kill()
        house.clickhouse.start()
        yield choose.uniform(0.1, 1.5)


def clickhouse_restarted(house: House, choose: random.Random) -> Iterator[float]:
    house.clickhouse.stop()
    yield choose.choice((0, 2))
    house.clickhouse.start()


def clickhouse_slow(house: House, choose: random.Random) -> Iterator[float]:
    house.clickhouse_proxy.delay_seconds = choose.uniform(0.1, 1)
    house.clickhouse_proxy.delay_answer_seconds = choose.uniform(0, 1)
    yield choose.uniform(3, 6)
    house.clickhouse_proxy.heal()


def clickhouse_slower_than_patience(house: House, choose: random.Random) -> Iterator[float]:
    house.clickhouse_proxy.delay_answer_seconds = 6.0
    yield 8.0
    house.clickhouse_proxy.heal()


def clickhouse_refuses(house: House, choose: random.Random) -> Iterator[float]:
    house.clickhouse_proxy.refusing_code = choose.choice(REFUSALS)
    yield choose.uniform(1, 7)
    house.clickhouse_proxy.heal()


def clickhouse_answers_lost(house: House, choose: random.Random) -> Iterator[float]:
    house.clickhouse_proxy.loses_answers = True
    yield choose.uniform(1, 5)
    house.clickhouse_proxy.heal()


def clickhouse_cut_off(house: House, choose: random.Random) -> Iterator[float]:
    house.clickhouse_proxy.is_cut = True
    yield choose.uniform(1, 7)
    house.clickhouse_proxy.heal()


def kafka_cut_off(house: House, choose: random.Random) -> Iterator[float]:
    house.kafka_proxy.cut()
    yield choose.choice((0.5, 2, SESSION_SECONDS + 2))
    house.kafka_proxy.heal()


def kafka_swallowed(house: House, choose: random.Random) -> Iterator[float]:
    house.kafka_proxy.hold()
    yield choose.choice((1, SESSION_SECONDS + 2))
    house.kafka_proxy.heal()


def registry_killed(house: House, choose: random.Random) -> Iterator[float]:
    house.service.kill()
    yield choose.uniform(0, 3)
    house.service.start()


FAULTS = (
    Fault("worker killed", "worker", worker_killed),
    Fault("worker crashes at a step", "worker", worker_crashes_at_a_step),
    Fault("worker frozen past its session", "worker", worker_frozen),
    Fault("worker frozen briefly", "worker", worker_frozen_briefly),
    Fault("worker has a double", "worker", worker_doubled),
    Fault("worker leaves and comes back", "worker", worker_leaves),
    Fault("worker joins and goes", "guest", worker_joins),
    Fault("rolling restart", "worker", rolling_restart),
    Fault("broker restarted", "broker", broker_restarted),
    Fault("broker killed", "broker", broker_killed),
    Fault("broker away for long", "broker", broker_away_for_long),
    Fault("broker frozen", "broker", broker_frozen),
    Fault("clickhouse frozen", "clickhouse", clickhouse_frozen),
    Fault("clickhouse killed", "clickhouse", clickhouse_killed),
    Fault("clickhouse killed twice", "clickhouse", clickhouse_killed_twice),
    Fault("clickhouse restarted", "clickhouse", clickhouse_restarted),
    Fault("clickhouse slow", "clickhouse way", clickhouse_slow),
    Fault("clickhouse slower than patience", "clickhouse way", clickhouse_slower_than_patience),
    Fault("clickhouse refuses", "clickhouse way", clickhouse_refuses),
    Fault("clickhouse's answers lost", "clickhouse way", clickhouse_answers_lost),
    Fault("clickhouse cut off", "clickhouse way", clickhouse_cut_off),
    Fault("kafka cut off", "kafka way", kafka_cut_off),
    Fault("kafka's packets swallowed", "kafka way", kafka_swallowed),
    Fault("registry killed", "registry", registry_killed),
)
# The most harm is where a worker dies.
_WEIGHTS = [3 if fault.part == "worker" else 1 for fault in FAULTS]


def chosen(choose: random.Random) -> list[Fault]:
    """One, or two of different parts."""
    first, second = choose.choices(FAULTS, _WEIGHTS, k=2)
    together = choose.random() < 0.4 and second.part != first.part
    return [first, second] if together else [first]
