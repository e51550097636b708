"""The one file of the SDK that makes a producer of aiokafka, whose types it states."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Set
from typing import Any, Protocol, cast

from aiokafka import AIOKafkaProducer, codec
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from anabranch.errors import EmitterSettingsError
from anabranch.settings import EmitterSettings, KafkaSettings

__all__ = ["KafkaError"]


class Batch(Protocol):
    def append(self, *, timestamp: int, key: bytes, value: bytes) -> object | None:
        """None when the batch is full. Milliseconds since 1970."""


class Producer(Protocol):
    client: Any

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def partitions_for(self, topic: str) -> Set[int]: ...

    def create_batch(self) -> Batch: ...

    async def send_batch(
        self, batch: Batch, topic: str, *, partition: int
    ) -> asyncio.Future[object]: ...


class Loop(asyncio.SelectorEventLoop):
    """For a thread of its own: a name is looked up in place.

    asyncio's pool of threads takes no more work once the interpreter ends, and that is when the
    last events have to find their broker.
    """

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        return socket.getaddrinfo(host, port, **hints)


def open_producer(kafka: KafkaSettings, settings: EmitterSettings) -> Producer:
    """Idempotent: a batch that is sent again is stored once, and batches keep their order."""
    password = kafka.sasl_password
    secure = kafka.security_protocol in {"SSL", "SASL_SSL"}
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap,
        client_id="anabranch-emitter",
        acks="all",
        enable_idempotence=True,
        compression_type=None if settings.compression == "none" else settings.compression,
        max_batch_size=settings.batch_bytes,
        request_timeout_ms=int(settings.request_timeout_seconds * 1000),
        security_protocol=kafka.security_protocol,
        ssl_context=ssl.create_default_context(cafile=kafka.ssl_ca_file) if secure else None,
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_plain_username=kafka.sasl_username,
        sasl_plain_password=password.get_secret_value() if password else None,
    )
    return cast(Producer, producer)


async def end(producer: Producer, timeout: float) -> None:
    """Closes the connections, whatever is on its way. The loop must end after this, too: it is
    what ends the tasks of a producer that cannot stop by itself."""
    with contextlib.suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(timeout):
            await producer.stop()
            return
    await producer.client.close()


def check_codec(compression: str) -> None:
    """aiokafka would say it only when the first producer is made, in the background."""
    if compression != "none" and not getattr(codec, f"has_{compression}")():
        raise EmitterSettingsError(
            f"compression {compression} needs a package: pip install 'aiokafka[{compression}]'"
        )


def too_large(error: BaseException) -> bool:
    return isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError)
