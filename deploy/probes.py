"""Whether a part answers: the question that `up` waits on and `status` asks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import httpx

from deploy.plan import HOST, KAFKA
from service.errors import CommandError

TIMEOUT = 5.0


async def kafka_answers(bootstrap: str) -> str | None:
    """None when it does, else what stands in the way. The broker opens its port last."""
    reason = None
    for host, port in hosts_and_ports(bootstrap):
        try:
            async with asyncio.timeout(TIMEOUT):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError) as error:
            reason = f"{host}:{port}: {str(error) or 'no answer'}"
        else:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            return None
    return reason


def hosts_and_ports(bootstrap: str) -> list[tuple[str, int]]:
    found = []
    for address in bootstrap.split(","):
        try:
            target = urlsplit(f"//{address.strip()}")
            host, port = target.hostname, target.port
        except ValueError:  # a port that is no number, or too large
            host, port = None, None
        if not host:
            raise CommandError(
                f"{KAFKA}: {address.strip()!r} is not an address like broker:9092 (several are "
                "separated by commas)"
            )
        found.append((host, port or 9092))
    return found


async def worker_answers(url: str) -> str | None:
    """Whether it has its partitions."""
    return await http_answers(f"{url}/readyz")


async def clickhouse_answers(url: str) -> str | None:
    return await http_answers(f"{url.rstrip('/')}/ping")


async def service_answers(url: str) -> str | None:
    return await http_answers(f"{url}/readyz")


async def http_answers(address: str) -> str | None:
    try:
        # A proxy of the environment is for what is elsewhere, not for this machine.
        elsewhere = urlsplit(address).hostname != HOST
        async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=elsewhere) as client:
            answer = await client.get(address)
    except (httpx.HTTPError, OSError) as error:
        return f"{address}: {str(error) or type(error).__name__}"
    return None if answer.is_success else f"{address}: {answer.status_code} {answer.text[:300]}"
