"""From settings to definitions that are kept up to date: which source, and what goes with it."""

from __future__ import annotations

import ipaddress
import logging
from urllib.parse import urlsplit

from anabranch.definition_refresh import DefinitionRefresh
from anabranch.definition_sources import Copy, FileSource, ServiceSource, SourceError
from anabranch.errors import ExperimentsSettingsError
from anabranch.settings import ExperimentsSettings

logger = logging.getLogger("anabranch")

_FILE_SECONDS = 1.0


def refresh_by(settings: ExperimentsSettings) -> DefinitionRefresh:
    """Not started yet, with what there is on disk. Raises ExperimentsSettingsError."""
    return _from_service(settings) if settings.file is None else _from_file(settings)


def _from_file(settings: ExperimentsSettings) -> DefinitionRefresh:
    assert settings.file is not None
    poll_seconds = min(settings.poll_seconds, _FILE_SECONDS)
    refresh = DefinitionRefresh(FileSource(settings.file), poll_seconds=poll_seconds)
    try:
        refresh.read_now()
    except SourceError as error:
        raise ExperimentsSettingsError(f"file: {error}") from error
    return refresh


def _from_service(settings: ExperimentsSettings) -> DefinitionRefresh:
    url = settings.url or ""
    key = None if settings.key is None else settings.key.get_secret_value()
    if key and _goes_in_the_clear(url):
        logger.warning("the key for %s goes over the network as it is: use https://", url)
    ca_file = None if settings.ca_file is None else str(settings.ca_file)
    try:
        source = ServiceSource(url, key, timeout=settings.timeout_seconds, ca_file=ca_file)
    except OSError as error:
        sentence = f"ca_file: {ca_file} holds no certificates: {error}"
        raise ExperimentsSettingsError(sentence) from error
    refresh = DefinitionRefresh(
        source,
        poll_seconds=settings.poll_seconds,
        copy=None if settings.cache is None else Copy(settings.cache),
        streams=source if settings.stream else None,
    )
    refresh.read_copy()
    return refresh


def _goes_in_the_clear(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return parts.scheme == "http" and not local
