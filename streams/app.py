"""The Faust app: its settings, its transport, and an agent for each topic.

Faust reads settings from variables of its own; all that matter here are given, so that none of them
changes how a worker behaves.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import faust
from mode import CrashingSupervisor
from yarl import URL

from anabranch.settings import KafkaSettings
from schemas.topics import TopicSpec
from streams.connection import client_options
from streams.kafka_log import Fetched, TopicPartition
from streams.settings import WorkerSettings
from streams.transport import SCHEME

Accept = Callable[[TopicPartition, Fetched], Awaitable[None]]


def build_app(settings: WorkerSettings, kafka: KafkaSettings, folder: Path) -> faust.App:
    """Faust makes a folder for tables, which we have none of: below `folder`."""
    app = faust.App(
        settings.group,
        datadir=folder,
        broker=[URL(f"{SCHEME}://{address.strip()}") for address in kafka.bootstrap.split(",")],
        broker_client_id=f"anabranch-worker-{settings.name or 'unnamed'}",
        broker_session_timeout=settings.session_timeout_seconds,
        # A member hears of a rebalance at its next heartbeat.
        broker_heartbeat_interval=min(0.5, settings.session_timeout_seconds / 3),
        broker_request_timeout=max(15.0, settings.session_timeout_seconds),
        broker_rebalance_timeout=max(15.0, 2 * settings.drain_seconds),
        broker_max_poll_records=2_000,  # record batches, not records
        broker_check_crcs=settings.check_crcs,
        consumer_group_instance_id=settings.name,
        consumer_auto_offset_reset="earliest",
        processing_guarantee="at_least_once",  # Faust commits nothing here: see `noack` and `acks`
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        agent_supervisor=CrashingSupervisor,
        loghandlers=[logging.NullHandler()],
        autodiscover=False,
    )
    app.transport.client_options = client_options(kafka)  # type: ignore[attr-defined]
    return app


def source(app: faust.App, spec: TopicSpec) -> Any:
    # acks=False: else Faust keeps a tree of the "gaps" between the offsets of our messages.
    return app.topic(spec.name, key_type=bytes, value_serializer="raw", acks=False)


def place_of(event: Any) -> TopicPartition:
    return TopicPartition(event.message.topic, event.message.partition)
