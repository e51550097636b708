"""Ports: a free one, or who holds the one that was asked for."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Mapping

import psutil

from service.errors import CommandError

# Who chooses a port listens on it a little later: until then, the system must not give it to a
# connection that goes out, as it does with those that it chooses itself.
_NOT_EPHEMERAL = range(20_000, 32_000)
_TRIES = 20


class PortError(CommandError):
    """A port that cannot be had. The text says why, and which flag names another."""


def choose_ports(host: str, wanted: Mapping[str, int]) -> dict[str, int]:
    """`choose_port` for each flag, and no two of them get the same."""
    chosen: dict[str, int] = {}
    for flag, port in wanted.items():
        for other, taken in chosen.items():
            if port == taken:
                raise PortError(f"{other} and {flag} are both {port}: each needs a port of its own")
        chosen[flag] = choose_port(host, port, flag=flag)
        while port == 0 and list(chosen.values()).count(chosen[flag]) > 1:
            chosen[flag] = choose_port(host, 0, flag=flag)
    return chosen


def choose_port(host: str, port: int, *, flag: str) -> int:
    """The port itself when nobody listens on it, a free one for 0."""
    if port == 0:
        for _ in range(_TRIES):
            free = random.choice(_NOT_EPHEMERAL)  # noqa: S311  # no secret
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind((host, free))
                return free
    with socket.socket() as probe:
        # As a server would set it: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError as error:
            raise PortError(f"{flag} {port} is no port: they go from 0 to 65535") from error
        except PermissionError as error:
            raise PortError(
                f"port {port} on {host} is not allowed to this user; {flag} names another"
            ) from error
        except OSError as error:
            raise PortError(
                f"port {port} on {host} cannot be used: {error.strerror}{holder(port)}; "
                f"{flag} names another, {flag} 0 takes a free one"
            ) from error
        return int(probe.getsockname()[1])


def holder(port: int) -> str:
    """Who listens on the port, as far as this user may see."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                process = psutil.Process(connection.pid)
                return f" (held by {process.name()}, pid {process.pid})"
    except psutil.Error:
        pass  # macOS shows connections to root alone, and a process may end while it is looked at
    return ""
