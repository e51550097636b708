"""The schema ids that events are written with: of our releases, or of the registry in use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from anabranch.fields import Event
from anabranch.registry import Registry, RegistryError
from service.loopback import is_loopback
from service.schema_catalogue import Catalogue
from service.settings import Settings


class SchemaIds:
    """`of_topic` is None until the registry has answered; ids never change after that."""

    def __init__(
        self, events: Iterable[type[Event]], catalogue: Catalogue, settings: Settings
    ) -> None:
        self.of_topic: Mapping[str, int] | None = None
        self._events = tuple(events)
        self._registry: Registry | None = None
        self._lookup: asyncio.Task[Mapping[str, int]] | None = None
        if is_own_address(settings):
            self.of_topic = {e.TOPIC: _released_id(e, catalogue) for e in self._events}
        else:
            self._registry = Registry(settings.registry)

    async def check(self) -> str | None:
        """For the readiness: asks the registry until it has answered once."""
        if self.of_topic is not None:
            return None
        if self._lookup is None:
            self._lookup = asyncio.create_task(asyncio.to_thread(self._register))
        try:
            # shield: a check that runs out of time must not start a second lookup beside this one.
            self.of_topic = await asyncio.shield(self._lookup)
        except RegistryError as error:
            self._lookup = None
            return str(error)
        return None

    def _register(self) -> Mapping[str, int]:
        assert self._registry is not None
        return {
            event.TOPIC: self._registry.register(f"{event.TOPIC}-value", event.SCHEMA)
            for event in self._events
        }


def is_own_address(settings: Settings) -> bool:
    """Whether the registry of the settings is this service itself, as it is when none is named."""
    if "url" not in settings.registry.model_fields_set:
        return True
    registry = urlsplit(settings.registry.url)
    host, own = registry.hostname or "", settings.service.host
    everywhere = own in {"0.0.0.0", "::"}  # noqa: S104  compared, not listened on
    same_host = host == own or (is_loopback(host) and (everywhere or is_loopback(own)))
    return same_host and registry.port == settings.service.port


def _released_id(event: type[Event], catalogue: Catalogue) -> int:
    release = catalogue.with_text(f"{event.TOPIC}-value", event.SCHEMA)
    assert release is not None, f"the schema of {event.__name__} is not released"
    return release.id
