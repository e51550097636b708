"""Whether ClickHouse answers a query of ours. The reports will have a real client of their own."""

from __future__ import annotations

import httpx

from sinks.settings import ClickHouseSettings


class ClickHouseProbe:
    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: httpx.AsyncClient | None = None

    async def check(self) -> str | None:
        """A query and not only /ping: so a wrong password shows here and not in a report."""
        if self._client is None:
            password = self._settings.password
            self._client = httpx.AsyncClient(
                headers={
                    "X-ClickHouse-User": self._settings.username,
                    "X-ClickHouse-Key": password.get_secret_value() if password else "",
                },
                timeout=2.5,
            )
        try:
            answer = await self._client.get(self._settings.url, params={"query": "SELECT 1"})
        except httpx.HTTPError as error:
            return f"{self._settings.url} does not answer: {str(error) or type(error).__name__}"
        if answer.status_code != httpx.codes.OK:
            return f"{self._settings.url} answers {answer.status_code}: {answer.text[:200].strip()}"
        return None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
