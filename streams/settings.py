"""How a worker works."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from anabranch.settings import Section


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
