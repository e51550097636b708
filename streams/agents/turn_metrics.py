from __future__ import annotations

from typing import Any

import faust

from schemas.topics import TURN_METRICS
from streams.app import Accept, place_of, source


def turn_metrics(app: faust.App, accept: Accept) -> None:
    @app.agent(source(app, TURN_METRICS), name="turn_metrics", concurrency=1)
    async def turn_metrics(stream: Any) -> None:
        async for event in stream.noack().events():
            await accept(place_of(event), event.message.value)
