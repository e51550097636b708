"""How a worker works."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from anabranch.settings import Section
from schemas.topics import ASSIGNMENTS, CATALOGUE


class DefinitionSettings(Section):
    folder: Path | None = Field(
        None, description="Where a copy of the experiments is kept, for when Kafka is away."
    )


class WorkerSettings(Section):
    group: str = Field(
        "anabranch-ingest",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
        description="The consumer group, whose commits are the ledger: one for each database.",
    )
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
        description="A name that stays the same over restarts makes the worker a static member; "
        "host and process when absent.",
    )
    host: str = Field("127.0.0.1", description="The address for /metrics, /healthz and /readyz.")
    port: int = Field(0, ge=0, le=65535, description="Their port; 0 takes a free one.")
    ingest: bool = Field(True, description="Bring events to ClickHouse.")
    assignments: bool = Field(True, description="Answer assignment-requests.v1.")
    batch_rows: int = Field(
        130_000, ge=1, le=500_000, description="Records of a partition that are applied as one."
    )
    flush_seconds: float = Field(
        0.8, gt=0, le=60, description="How long a record waits for company at most, in seconds."
    )
    unit_sums: bool = Field(True, description="Keep sums by unit; reports need them.")
    grace_seconds: float = Field(
        60.0, ge=0, description="How long after its end a window counts as open, in seconds."
    )
    session_timeout_seconds: float = Field(
        10.0, ge=1, le=300, description="How long Kafka waits for a silent worker, in seconds."
    )
    intent_age_seconds: float = Field(
        30.0,
        gt=0,
        description="An intent older than this is made anew before anything of it is inserted, in "
        "seconds; far less than the tables' deduplication window covers.",
    )
    drain_seconds: float = Field(
        10.0, ge=0, le=300, description="How long a stop waits for what is intended, in seconds."
    )
    stall_seconds: float = Field(
        120.0,
        gt=0,
        description="Records waiting longer than this while ClickHouse answers make /healthz red.",
    )
    dead_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="The worker stops when more of a minute's records than this share are dead.",
    )
    dead_at_least: int = Field(
        1_000, ge=1, description="Dead letters of a minute below this number stop nothing."
    )
    batches_at_once: int = Field(
        3,
        ge=1,
        le=256,
        description="Batches applied at the same time; more where ClickHouse is far away or large.",
    )
    threads: int = Field(
        2,
        ge=1,
        le=64,
        description="Threads that decode and aggregate; so many whole batches fit in memory.",
    )
    check_crcs: bool = Field(True, description="Check the sum of each record batch.")
    batch_requests: int = Field(
        5_000,
        ge=1,
        le=100_000,
        description="Assignment requests of a partition that are answered as one.",
    )
    reply_topics: tuple[str, ...] = Field(
        (),
        description="Topics that a request may name in reply_to, beside assignments.v1, as a JSON "
        'array: ["answers-of-the-lobby"].',
    )

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not (self.ingest or self.assignments):
            raise ValueError("INGEST and ASSIGNMENTS are both off: nothing is left to do")
        return self

    @model_validator(mode="after")
    def _replies_where_it_may(self) -> Self:
        ours = {spec.name for spec in CATALOGUE} - {ASSIGNMENTS.name}
        if taken := sorted(ours.intersection(self.reply_topics)):
            raise ValueError(f"REPLY_TOPICS names {taken[0]}, which holds other records")
        return self
