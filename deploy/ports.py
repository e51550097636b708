"""Ports: a free one, or who holds the one that was asked for."""

from __future__ import annotations

import socket

import psutil

from service.errors import CommandError


class PortError(CommandError):
    """Somebody else listens there."""


def choose_port(host: str, port: int, *, flag: str) -> int:
    """The port itself when nobody listens on it, a free one for 0."""
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
