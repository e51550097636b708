"""Answers that need not be sent twice."""

from __future__ import annotations

import hashlib

from fastapi import Request


def etag_of(body: bytes) -> str:
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def is_unchanged(request: Request, etag: str) -> bool:
    """Whether the caller has this very answer already (RFC 9110, weak comparison)."""
    given = request.headers.get("if-none-match", "")
    names = [name.strip().removeprefix("W/") for name in given.split(",")]
    return etag in names or given.strip() == "*"
