"""Signed messages to an address of the operator's, as the Standard Webhooks specification has them.

    webhook-id          the same at every attempt: a receiver keeps it to know a message again
    webhook-timestamp   of this attempt, in seconds; a receiver refuses what is minutes old
    webhook-signature   v1,<base64 of HMAC-SHA256 over "<id>.<timestamp>.<body>">

Nothing waits for a receiver: a message is tried again with growing pauses beside everything else,
then given up, counted and logged. Neither the address nor the secret is ever logged.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import structlog

from service.metrics import ServiceMetrics
from service.webhook_settings import WebhookSettings

logger = structlog.get_logger("service.webhooks")

MOST_WAITING = 100
_PAUSES = (1.0, 2.0, 5.0, 15.0, 60.0, 120.0, 300.0, 600.0, 1_200.0)


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"


class Webhooks:
    def __init__(
        self,
        settings: WebhookSettings,
        metrics: ServiceMetrics,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._client: httpx.AsyncClient | None = None
        self._under_way: dict[asyncio.Task[None], str] = {}
        for outcome in ("delivered", "retried", "given_up", "no_room", "lost_at_stop"):
            metrics.webhooks.labels(outcome)

    def send(self, kind: str, message_id: str, data: Mapping[str, Any]) -> None:
        """Returns at once. Without an address it does nothing."""
        if self._settings.url is None:
            return
        if len(self._under_way) >= MOST_WAITING:
            self._metrics.webhooks.labels("no_room").inc()
            logger.error("a webhook was not sent: too many wait", id=message_id, kind=kind)
            return
        sent_at = datetime.fromtimestamp(self._clock(), UTC).isoformat()
        body = orjson.dumps({"type": kind, "timestamp": sent_at, "data": data})
        url = self._settings.url.get_secret_value()
        task = asyncio.create_task(self._deliver(url, message_id, body), name="webhook")
        self._under_way[task] = message_id
        task.add_done_callback(lambda ended: self._under_way.pop(ended, None))

    async def stop(self) -> None:
        """What is not delivered by now is lost; its audit entry is not."""
        for task, message_id in list(self._under_way.items()):
            if task.cancel():
                self._metrics.webhooks.labels("lost_at_stop").inc()
                logger.error("a webhook was not delivered before the end", id=message_id)
        await asyncio.gather(*self._under_way, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _deliver(self, url: str, message_id: str, body: bytes) -> None:
        for attempt in range(1, self._settings.attempts + 1):
            problem = await self._try(url, message_id, body)
            if problem is None:
                self._metrics.webhooks.labels("delivered").inc()
                logger.info("a webhook was delivered", id=message_id, attempt=attempt)
                return
            if attempt < self._settings.attempts:
                self._metrics.webhooks.labels("retried").inc()
                logger.warning("a webhook is tried again", id=message_id, problem=problem)
                await self._sleep(_PAUSES[min(attempt, len(_PAUSES)) - 1])
        self._metrics.webhooks.labels("given_up").inc()
        logger.error("a webhook was given up", id=message_id, problem=problem)

    async def _try(self, url: str, message_id: str, body: bytes) -> str | None:
        """None once it was taken, else why not, without the address."""
        if self._client is None:
            self._client = httpx.AsyncClient(follow_redirects=False)
        timestamp = int(self._clock())
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._settings.signing_key, message_id, timestamp, body),
        }
        seconds = self._settings.timeout_seconds
        try:
            # Over all of it: the client's own timeout is for each read, and a receiver may trickle.
            async with asyncio.timeout(seconds):
                request = self._client.stream("POST", url, content=body, headers=headers)
                async with request as answer:
                    status = answer.status_code  # what it says beside that, nobody reads
        except TimeoutError:
            return f"no answer within {seconds:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return type(error).__name__  # its text may name the address
        return None if 200 <= status < 300 else f"it answered {status}"
