from __future__ import annotations

from typing import Any

import faust

from schemas.topics import OUTCOMES
from streams.app import Accept, place_of, source


def outcomes(app: faust.App, accept: Accept) -> None:
    @app.agent(source(app, OUTCOMES), name="outcomes", concurrency=1)
    async def outcomes(stream: Any) -> None:
        async for event in stream.noack().events():
            await accept(place_of(event), event.message.value)
