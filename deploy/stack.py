"""The stack: its parts started in order, kept alive, and ended in the reverse order.

Kafka and ClickHouse start side by side, each followed by what has to be in it; then the service.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from deploy.contents import make_tables, make_topics
from deploy.jar_download import class_path
from deploy.jars import Jar, locked_jars
from deploy.java import find_java
from deploy.kafka import LISTENS_ON
from deploy.memory_broker import LIMITS
from deploy.plan import CREDENTIALS, Part, Plan, variables
from deploy.probes import clickhouse_answers, kafka_answers, service_answers, worker_answers
from deploy.processes import PartProcess
from deploy.restarts import USUAL, RestartRule
from deploy.state import StackRecord, StateError, StateFolder, start_time, write_record
from deploy.steps import Event, Report, step
from service.errors import CommandError
from service.settings import Settings, load_settings

Probe = Callable[[str], Awaitable[str | None]]

READY_SECONDS = 60.0
PROBE_EVERY_SECONDS = 0.1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
JARS = "Java and Kafka's jars"


class Stopped(Exception):  # noqa: N818  # nothing went wrong: somebody asked for the end
    """Raised inside to leave the task group."""


class Stack:
    def __init__(
        self,
        state: StateFolder,
        plan: Plan,
        given: Mapping[str, str],
        report: Report,
        *,
        rule: RestartRule = USUAL,
    ) -> None:
        self._state = state
        self._plan = plan
        self._given = given
        self._report = report
        self._rule = rule
        self._addresses = plan.addresses
        self._credentials = Path(given.get(CREDENTIALS, state.credentials))
        self._parts: list[PartProcess] = []
        self._told_to_stop = asyncio.Event()
        self._pid, self._started = os.getpid(), start_time(os.getpid())

    async def run(self) -> None:
        """Return when it was told to stop and all is gone; CommandError when it cannot go on."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._stop_asked)
        self._write_record()
        failure: CommandError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._wait_for_the_end())
                await self._start(tasks)
        except* Stopped:
            self._report(Event("stops", "stopping"))
        except* CommandError as failed:
            failure = first(failed)
        finally:
            await self._stop_parts()
            for number in SIGNALS:
                loop.remove_signal_handler(number)
            self._state.record.unlink(missing_ok=True)
        if failure is not None:
            raise failure

    async def _wait_for_the_end(self) -> None:
        await self._told_to_stop.wait()
        raise Stopped

    def _stop_asked(self) -> None:
        if self._told_to_stop.is_set():  # asked twice: no more politeness
            for part in self._parts:
                part.kill()
        self._told_to_stop.set()

    async def _start(self, tasks: asyncio.TaskGroup) -> None:
        async with asyncio.TaskGroup() as stores:
            stores.create_task(self._start_kafka(tasks))
            stores.create_task(self._start_clickhouse(tasks))
        with step(self._report, "Service"):
            self._run_part(tasks, self._plan.service)
            await answered(service_answers, self._addresses.service)
        if self._plan.workers:
            with step(self._report, "Workers"):
                for part, _ in self._plan.workers:
                    self._run_part(tasks, part)
                for _, address in self._plan.workers:
                    await answered(worker_answers, address)
        if self._plan.traffic is not None:
            self._run_part(tasks, self._plan.traffic)
        self._report(Event("ready", self._summary()))

    async def _start_kafka(self, tasks: asyncio.TaskGroup) -> None:
        part = self._plan.kafka
        if part is None:
            self._report(Event("says", f"Kafka: the one at {self._addresses.kafka} is used"))
        elif not self._plan.kafka_in_memory:
            with step(self._report, JARS):
                await asyncio.to_thread(self._bring_jars)
        with step(self._report, "Kafka"):
            if part is not None:
                process = self._run_part(tasks, part)
            if self._plan.kafka_in_memory:
                self._report(Event("says", LIMITS))
                await self._learn_address(process)
            await answered(kafka_answers, self._addresses.kafka)
        if not self._plan.kafka_in_memory:  # which made them itself
            with step(self._report, "Topics"):
                await make_topics(self._settings(), self._report)

    async def _learn_address(self, process: PartProcess) -> None:
        address = await process.printed(LISTENS_ON)
        self._addresses = self._addresses._replace(kafka=address)
        self._write_record()

    def _bring_jars(self) -> None:
        """Here and not in the part's own process, so that the progress can be seen."""
        there: dict[Jar, int] = {}
        total = sum(jar.size for jar in locked_jars())

        def progress(jar: Jar, size: int) -> None:
            if self._told_to_stop.is_set():
                raise Stopped  # a thread cannot be cancelled from outside
            there[jar] = size
            text = f"{sum(there.values()) >> 20} of {total >> 20} MB"
            self._report(Event("goes on", text, JARS))

        find_java(self._given)
        class_path(self._settings().embedded, progress)

    async def _start_clickhouse(self, tasks: asyncio.TaskGroup) -> None:
        part = self._plan.clickhouse
        if part is None:
            self._report(
                Event("says", f"ClickHouse: the one at {self._addresses.clickhouse} is used")
            )
        with step(self._report, "ClickHouse"):
            if part is not None:
                self._run_part(tasks, part)
            await answered(clickhouse_answers, self._addresses.clickhouse)
        with step(self._report, "Tables"):
            await make_tables(self._settings())

    def _run_part(self, tasks: asyncio.TaskGroup, part: Part) -> PartProcess:
        process = PartProcess(
            part,
            {**self._given, **self._variables()},
            self._state.logs / f"{part.name}.log",
            self._report,
            self._write_record,
            self._rule,
        )
        self._parts.append(process)
        tasks.create_task(process.keep())
        return process

    async def _stop_parts(self) -> None:
        # Traffic first, the stores after all that uses them; what was started side by side ends so.
        workers = {part.name for part, _ in self._plan.workers}
        for names in ({"traffic"}, workers, {"service"}, {"kafka", "clickhouse"}):
            parts = [part for part in self._parts if part.part.name in names]
            await asyncio.gather(*(part.stop() for part in parts))

    def _variables(self) -> dict[str, str]:
        return variables(self._addresses, self._credentials, self._given)

    def _settings(self) -> Settings:
        told = {**self._given, **self._variables()}
        return load_settings(told, state=self._state.root)

    def _write_record(self) -> None:
        record = StackRecord(
            pid=self._pid,
            started=self._started,
            **self._addresses._asdict(),
            environment=self._variables(),
            processes=tuple(part.record for part in self._parts if part.record is not None),
        )
        try:
            write_record(self._state, record)
        except StateError as error:
            # On a full disk the stack itself goes on; `status` then knows an older state.
            self._report(Event("says", str(error)))

    def _summary(self) -> str:
        service, kafka, clickhouse = self._addresses
        return (
            "Anabranch is ready\n"
            f"  service      {service}   (documentation: {service}/docs)\n"
            f"  kafka        {kafka}\n"
            f"  clickhouse   {clickhouse}\n"
            f"{self._worker_lines()}"
            f"  keys         {self._credentials}\n"
            f"  logs         {self._state.logs}\n"
            f"  to stop it   Ctrl-C, or: anabranch down --state {self._state.root}"
        )

    def _worker_lines(self) -> str:
        return "".join(
            f"  {part.name:<12} {address}   (/metrics, /readyz)\n"
            for part, address in self._plan.workers
        )


def first(group: BaseExceptionGroup[CommandError]) -> CommandError:
    error = group.exceptions[0]
    return first(error) if isinstance(error, BaseExceptionGroup) else error


async def answered(probe: Probe, address: str) -> None:
    """Return when it answers. Its death is seen by whoever keeps it, its silence here."""
    deadline = time.monotonic() + READY_SECONDS
    while reason := await probe(address):
        if time.monotonic() > deadline:
            raise CommandError(f"no answer within {READY_SECONDS:g} s: {reason}")
        await asyncio.sleep(PROBE_EVERY_SECONDS)
