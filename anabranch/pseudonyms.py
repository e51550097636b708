"""Pseudonyms: stable ids that tell nothing about a person to whoever lacks the key.

Keyed HMAC-SHA-256, its first 128 bits in base32: 26 characters of `a-z2-7`.

The kind of thing (player, session, device) is part of what is hashed, so that a session and a
player of the same raw id do not share a pseudonym. The *field* is not: an experiment's unit, an
inviter or an invitee is a player or a session, and must have the same pseudonym everywhere, or its
exposures would not meet its turns.

Rotating the key gives everybody a new pseudonym: running experiments then see each unit as a new
one. So rotate between experiments, and keep the old key away from the data. Raw ids are hashed as
they come: give them in one spelling (an e-mail address in lower case, say).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from pydantic import SecretStr

from anabranch.errors import PseudonymKeyError

SHORTEST_KEY_BYTES = 32
_BYTES = 16

# 26 characters carry 130 bits: the last one has its two low bits clear.
_PSEUDONYM = re.compile(r"[a-z2-7]{25}[aeimquy4]")
_EMAIL = re.compile(r"(?:mailto:)?[^@\s]+@[^@\s]+\.[^@\s.]{2,}", re.IGNORECASE)
# With a plus it is international; without one only the grouping tells it from a numeric id.
_INTERNATIONAL = re.compile(
    r"(?:tel:)?(?:\+|00(?=\d+[ ().\-/]))[1-9](?:[ ().\-/]{0,2}\d){6,14}", re.IGNORECASE
)
_NATIONAL = re.compile(r"(?:tel:)?(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}")
_LONGEST_IDENTIFIER = 320


class Pseudonyms:
    """Makes pseudonyms with one key. Safe to share between threads."""

    def __init__(self, key: SecretStr | str | bytes) -> None:
        """The key is 32 random bytes or more: raw, as base64, or a text of that length."""
        secret = _key_bytes(key)
        if len(secret) < SHORTEST_KEY_BYTES:
            raise PseudonymKeyError(
                f"the key of pseudonyms has {len(secret)} bytes and needs {SHORTEST_KEY_BYTES}; "
                "make one with `openssl rand -base64 32`, keep it secret, and give every service "
                "the same (ANABRANCH_PSEUDONYM_KEY)"
            )
        self._keyed = hmac.new(secret, digestmod=hashlib.sha256)

    def player(self, raw: str) -> str:
        return self.of("player", raw)

    def session(self, raw: str) -> str:
        return self.of("session", raw)

    def device(self, raw: str) -> str:
        return self.of("device", raw)

    def of(self, kind: str, raw: str) -> str:
        """The pseudonym of a raw id; a pseudonym stays what it is, so nothing is hashed twice."""
        if not raw:
            raise ValueError("a raw id must not be empty")
        if not kind or "\0" in kind:
            raise ValueError("the kind of a pseudonym is a word such as 'player' or 'session'")
        if is_pseudonym(raw):
            return raw
        keyed = self._keyed.copy()  # saves hashing the key each time
        keyed.update(f"{kind}\0{raw}".encode("utf-8", "surrogatepass"))
        return base64.b32encode(keyed.digest()[:_BYTES]).decode().rstrip("=").lower()

    def __repr__(self) -> str:
        return "Pseudonyms(key=**********)"


def is_pseudonym(text: str) -> bool:
    """By its form alone; whether some key made it cannot be seen."""
    return len(text) == 26 and _PSEUDONYM.fullmatch(text) is not None


def personal_identifier(text: str) -> str | None:
    """What kind of one it is; None for numbers alone, UUIDs, hashes and other ids."""
    if len(text) > _LONGEST_IDENTIFIER:
        return None
    text = text.strip()
    if _EMAIL.fullmatch(text):
        return "e-mail address"
    if _INTERNATIONAL.fullmatch(text) or _NATIONAL.fullmatch(text):
        return "phone number"
    return None


def _key_bytes(key: SecretStr | str | bytes) -> bytes:
    if isinstance(key, bytes):
        return key
    text = key.get_secret_value() if isinstance(key, SecretStr) else key
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode()
    # A passphrase may happen to be base64, too: then its own bytes count.
    return decoded if len(decoded) >= SHORTEST_KEY_BYTES else text.encode()
