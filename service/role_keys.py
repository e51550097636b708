"""The keys of the credentials file: one a role, made with the installation."""

from __future__ import annotations

from collections.abc import Mapping

from service.errors import CommandError
from service.loopback import is_loopback
from service.roles import Role
from service.settings import Settings, read_credentials

SHORTEST_KEY = 16


def load_keys(settings: Settings) -> Mapping[Role, str] | None:
    """The keys, or None where the service is meant to be open; anything unclear stops the start."""
    service = settings.service
    if settings.credentials is not None:
        return _checked_keys(read_credentials(settings.credentials), str(settings.credentials))
    if not service.open_access:
        raise CommandError(
            "no keys: set ANABRANCH_CREDENTIALS to a JSON file with a key per role (`anabranch up` "
            "makes one), or, on this machine alone, ANABRANCH_SERVICE__OPEN_ACCESS=true"
        )
    if not is_loopback(service.host):
        raise CommandError(
            f"ANABRANCH_SERVICE__OPEN_ACCESS=true serves without keys, and --host {service.host} "
            "can be reached from elsewhere: use 127.0.0.1, or set ANABRANCH_CREDENTIALS"
        )
    return None


def _checked_keys(credentials: Mapping[str, str], source: str) -> Mapping[Role, str]:
    keys = {role: credentials[role.value] for role in Role if role.value in credentials}
    if not keys:
        roles = ", ".join(role.value for role in Role)
        raise CommandError(f"{source} holds no key; name at least one of the roles {roles}")
    for role, key in keys.items():
        if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable():
            raise CommandError(
                f"{source}: the key of {role.value} must have {SHORTEST_KEY} or more printable "
                "ASCII characters"
            )
    if len(set(keys.values())) < len(keys):
        raise CommandError(f"{source}: two roles have the same key; each needs its own")
    return keys
