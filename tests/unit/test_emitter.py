"""The faces of the emitter that need no Kafka; delivery is in tests/live."""

from __future__ import annotations

import gc
import signal
import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import ValidationError

from anabranch import Emitter, EmitterSettings, EmitterSettingsError, Outcome, SyncEmitter
from anabranch.metrics import expose
from anabranch.settings import RegistrySettings
from service.settings import load_settings

EVENT = Outcome(unit="u1", values={"cost": 1.5})
OFF = EmitterSettings(enabled=False)
# Made, never given an event: so it connects to nothing.
IDLE = EmitterSettings(flush_on_sigterm=False, capacity=7)


async def test_disabled_emitter_takes_nothing_starts_nothing_and_raises_nothing() -> None:
    threads, handler = threading.active_count(), signal.getsignal(signal.SIGTERM)
    async with Emitter(settings=OFF) as emitter:
        assert not emitter.emit(EVENT)
        assert not emitter.emit("nonsense")  # type: ignore[arg-type]  # what is tested
        assert await emitter.flush() == 0
    with SyncEmitter(settings=OFF) as sync:
        assert not sync.emit(EVENT)
        assert (sync.flush(), sync.queued) == (0, 0)
    assert emitter.counters.emitted == 0
    assert emitter.counters.invalid == {}
    assert threading.active_count() == threads
    assert signal.getsignal(signal.SIGTERM) is handler


def test_emitter_starts_no_thread_before_the_first_event() -> None:
    threads = threading.active_count()
    with SyncEmitter(settings=IDLE) as emitter:
        assert emitter.flush(1) == 0
        assert threading.active_count() == threads


def test_emitter_can_be_closed_twice_and_then_refuses() -> None:
    emitter = SyncEmitter(settings=IDLE)
    assert emitter.close() == emitter.close() == 0
    assert not emitter.emit(EVENT)
    assert emitter.counters.dropped["closed"] == 1


def test_emitter_says_at_once_that_its_registry_cannot_be_one() -> None:
    with pytest.raises(EmitterSettingsError, match="must begin with http"):
        SyncEmitter(registry=RegistrySettings(url="ftp://schemas"))


def test_emitter_reads_its_settings_from_the_environment() -> None:
    environment = {
        "ANABRANCH_EMITTER__ENABLED": "false",
        "ANABRANCH_EMITTER__LINGER_MS": "20",
        "ANABRANCH_EMITTER__SCHEMA_IDS": '{"outcomes.v1": 4}',
        "ANABRANCH_LOG_LEVEL": "debug",  # the application's
        "PATH": "/bin",
    }
    settings = SyncEmitter.from_environment(environment).settings
    assert settings == EmitterSettings(enabled=False, linger_ms=20, schema_ids={"outcomes.v1": 4})
    assert load_settings(environment).emitter == settings


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ANABRANCH_EMITTER__LINGERMS", "20", "known: ENABLED, STRICT, CAPACITY, LINGER_MS"),
        ("ANABRANCH_EMITTER__CAPACITY", "many", "valid integer"),
        ("ANABRANCH_EMITTER__CAPACITY", "0", "greater than 0"),
        ("ANABRANCH_EMITTER__SCHEMA_IDS", "outcomes.v1=4", "must be JSON"),
        ("ANABRANCH_EMITTER__COMPRESSION", "rar", "'lz4', 'zstd'"),
    ],
)
def test_emitter_names_the_variable_that_is_wrong(name: str, value: str, said: str) -> None:
    with pytest.raises(EmitterSettingsError, match=said) as refused:
        SyncEmitter.from_environment({name: value})
    assert str(refused.value).startswith(name)


def test_emitter_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        IDLE.capacity = 8  # type: ignore[misc]  # what is tested


def shown(registry: CollectorRegistry) -> dict[str, float]:
    text = generate_latest(registry).decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_metrics_show_the_counters_as_they_are_when_scraped() -> None:
    registry, emitter = CollectorRegistry(), SyncEmitter(settings=IDLE)
    expose(emitter, registry=registry)
    expose(emitter, registry=registry)
    counters = emitter.counters
    counters.emitted, counters.flushes, counters.flush_failures = 5, 2, 1
    emitter.emit(Outcome(unit="", values={"cost": 1.0}))
    emitter.close()
    emitter.emit(EVENT)
    figures = shown(registry)
    prefix = "anabranch_emitter_"
    assert figures[prefix + 'events_total{emitter="default"}'] == 5
    assert figures[prefix + 'flushes_total{emitter="default"}'] == 2
    assert figures[prefix + 'flush_failures_total{emitter="default"}'] == 1
    assert figures[prefix + 'invalid_total{emitter="default",type="outcome"}'] == 1
    assert figures[prefix + 'dropped_total{emitter="default",reason="closed"}'] == 1
    assert figures[prefix + 'dropped_total{emitter="default",reason="queue_full"}'] == 0
    assert figures[prefix + 'queue_capacity{emitter="default"}'] == 7


def test_metrics_tell_emitters_apart_by_name_and_add_up_those_of_one_name() -> None:
    registry = CollectorRegistry()
    emitters = [SyncEmitter(settings=IDLE) for _ in range(3)]
    for emitter, name in zip(emitters, ("chat", "chat", "growth"), strict=True):
        expose(emitter, name=name, registry=registry)
        emitter.counters.emitted = 5
    figures = shown(registry)
    assert figures['anabranch_emitter_events_total{emitter="chat"}'] == 10
    assert figures['anabranch_emitter_events_total{emitter="growth"}'] == 5
    for emitter in emitters:
        emitter.counters.emitted = 0
        emitter.close()


def test_metrics_do_not_keep_an_emitter_alive() -> None:
    registry, emitter = CollectorRegistry(), SyncEmitter(settings=IDLE)
    expose(emitter, registry=registry)
    emitter.close()
    del emitter
    gc.collect()
    assert shown(registry) == {}
