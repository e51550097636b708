"""The guard on the door: a unit test that opens a socket or a database fails.

It fails at teardown, not where the socket is opened, so that no `except` in the code under test
can hide it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

_attempts: list[str] = []
_armed = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _armed:
        return
    if event in {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"}:
        _attempts.append(f"{event}{arguments[1:]!r}")
    elif event == "import" and arguments[0] in {"chdb", "clickhouse_connect.driver"}:
        _attempts.append(f"imported the database package {arguments[0]}")


# An audit hook sees sockets that C extensions open through the interpreter, too; it cannot be
# removed again, hence the switch.
sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def _no_io(request: pytest.FixtureRequest) -> Iterator[None]:
    global _armed
    _attempts.clear()
    _armed = True
    try:
        yield
    finally:
        _armed = False
    if _attempts:
        seen = "; ".join(_attempts)
        pytest.fail(f"{request.node.name} is a unit test and did I/O: {seen}", pytrace=False)
