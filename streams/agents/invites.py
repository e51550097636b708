from __future__ import annotations

from typing import Any

import faust

from schemas.topics import INVITES
from streams.app import Accept, place_of, source


def invites(app: faust.App, accept: Accept) -> None:
    @app.agent(source(app, INVITES), name="invites", concurrency=1)
    async def invites(stream: Any) -> None:
        async for event in stream.noack().events():
            await accept(place_of(event), event.message.value)
