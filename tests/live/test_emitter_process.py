"""The emitter in a process that ends, is ended, or forks."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.live.kafka_fixture import Broker
from tests.live.record_log import make_topic, numbers

HEAD = """
import os, signal, sys, threading, time
from anabranch import Emitter, EmitterSettings, KafkaSettings, SyncEmitter
from tests.live.record_log import turn, turn_type

def emitter_of(kind, **settings):
    settings = EmitterSettings(schema_ids={kind.TOPIC: 1}, **settings)
    return SyncEmitter(KafkaSettings(bootstrap=sys.argv[1]), settings=settings)
"""


def run(broker: Broker, program: str, *, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HEAD + program, broker.bootstrap],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done.stdout


async def test_emitter_delivers_at_the_end_of_the_interpreter(kafka: Broker) -> None:
    kind = await make_topic(kafka, "process-exit")
    program = """
kind = turn_type("process-exit")
def emit_and_forget():
    emitter = emitter_of(kind)
    for number in range(2000):
        emitter.emit(turn(kind, "s", number))
emit_and_forget()
"""
    run(kafka, program)
    assert numbers(kafka, kind.TOPIC) == {"s": [*range(2000)]}


async def test_emitter_delivers_on_sigterm_and_the_process_ends_by_it(kafka: Broker) -> None:
    kind = await make_topic(kafka, "process-term")
    program = """
kind = turn_type("process-term")
emitter = emitter_of(kind, linger_ms=10_000)
for number in range(2000):
    emitter.emit(turn(kind, "s", number))
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(30)
"""
    run(kafka, program, expect=-signal.SIGTERM)
    assert numbers(kafka, kind.TOPIC) == {"s": [*range(2000)]}


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(
            """
signal.signal(signal.SIGTERM, mine := lambda number, frame: None)
emitter = emitter_of(turn_type("any"))
assert signal.getsignal(signal.SIGTERM) is mine
""",
            id="somebody else's stays",
        ),
        pytest.param(
            """
emitter = emitter_of(turn_type("any"), flush_on_sigterm=False)
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
""",
            id="switched off",
        ),
        pytest.param(
            """
made = threading.Thread(target=emitter_of, args=(turn_type("any"),))
made.start()
made.join()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
""",
            id="made in another thread",
        ),
        pytest.param(
            """
emitter = emitter_of(turn_type("any"), enabled=False)
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert not emitter.emit(turn(turn_type("any"), "s", 1))
assert (emitter.flush(), emitter.close(), threading.active_count()) == (0, 0, 1)
assert "anabranch.delivery" not in sys.modules
""",
            id="disabled",
        ),
    ],
)
def test_emitter_leaves_the_signal_handler_alone_when(kafka: Broker, program: str) -> None:
    run(kafka, program)


async def test_forked_child_sends_its_own_events_and_the_parent_its_own(kafka: Broker) -> None:
    kind = await make_topic(kafka, "process-fork")
    program = """
kind = turn_type("process-fork")
emitter = emitter_of(kind, linger_ms=200)
emitter.emit(turn(kind, "early", 0))
assert emitter.flush(20) == 0
for number in range(1000):
    emitter.emit(turn(kind, "parent", number))
children = []
for child in range(3):
    if not (pid := os.fork()):
        for number in range(500):
            emitter.emit(turn(kind, f"child{child}", number))
        assert emitter.counters.emitted == 500
        os._exit(0 if emitter.close(20) == 0 and emitter.counters.delivered == 500 else 3)
    children.append(pid)
for number in range(1000, 1500):
    emitter.emit(turn(kind, "parent", number))
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
assert emitter.close(20) == 0
assert emitter.counters.delivered == 1501
"""
    run(kafka, program)
    stored = numbers(kafka, kind.TOPIC)
    children = {f"child{child}": [*range(500)] for child in range(3)}
    assert stored == {"early": [0], "parent": [*range(1500)], **children}


def test_sdk_loads_no_kafka_client_until_an_emitter_is_made() -> None:
    program = "import anabranch, sys; print(sorted(sys.modules))"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "'anabranch.emitter'" in loaded
    for heavy in ("aiokafka", "fastavro", "prometheus_client"):
        assert f"'{heavy}'" not in loaded
