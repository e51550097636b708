from __future__ import annotations

from typing import Any

import faust

from schemas.topics import EXPOSURES
from streams.app import Accept, place_of, source


def exposures(app: faust.App, accept: Accept) -> None:
    @app.agent(source(app, EXPOSURES), name="exposures", concurrency=1)
    async def exposures(stream: Any) -> None:
        async for event in stream.noack().events():
            await accept(place_of(event), event.message.value)
