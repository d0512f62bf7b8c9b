"""Ports and the sockets that listen on them."""

import asyncio
import contextlib
import random
import socket
from pathlib import Path
from urllib.parse import urlsplit

from comanda.errors import ConfigurationFault

LOOPBACK = "127.0.0.1"
LOWEST = 15_000
BACKLOG = 4096
ANSWER_SECONDS = 5.0


def free_port() -> int:
    """A port on which nobody listens, below those that the kernel hands to outgoing connections.

    Above, a client that reconnects to its own restarting server may get the server's port, and so keep it from it.
    """
    for _ in range(200):
        port = random.randrange(LOWEST, _first_ephemeral())  # noqa: S311 - it only has to be free
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((LOOPBACK, port))
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket that processes can inherit; port 0 takes a free one.

    Raises:
        ConfigurationFault: in one sentence, why not.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as refused:
        raise ConfigurationFault(f"--host {host} is no address of this machine: {refused}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as refused:
        listener.close()
        raise ConfigurationFault(
            f"Nothing can listen on {host}:{port} ({refused.strerror}): stop what uses it, or choose another --port"
        ) from None
    except OverflowError:
        listener.close()
        raise ConfigurationFault(f"--port {port} is not between 0 and 65535") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Where this machine reaches it; a socket on every address is reached by the loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def answers(url: str) -> bool:
    """Whether GET of this http URL is answered with 200 within seconds."""
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(request.encode())
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False


def _first_ephemeral() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
    return first if first > LOWEST + 1000 else 32_768
