"""The way to a host: resolve once, ask the policy about each address, connect to just those addresses."""

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from mailward.smtp.reply import Reply
from mailward.transport.outcome import Fault, Stage
from mailward.transport.trouble import Trouble, local

_STAGGER_S = 0.25  # RFC 8305 5: the head start of each address before the next is tried beside it

AddressCheck = Callable[[str, int], str | None]
"""Judges a numeric address and port: None allows, a sentence says why not."""


def allow_all(address: str, port: int) -> str | None:
    """Allow every address."""
    return None


@dataclass(frozen=True, slots=True)
class Address:
    """One numeric address to connect to."""

    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int]

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.sockaddr[0])


def is_loopback(address: str) -> bool:
    """Return whether a numeric `address` never leaves this machine."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped.is_loopback
    return ip.is_loopback


async def resolve(host: str, port: int, deadline_s: float, check: AddressCheck = allow_all) -> list[Address]:
    """Return the allowed addresses of `host`, in the resolver's order. Raises Trouble."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(deadline_s):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except TimeoutError:
        raise local(Stage.RESOLVE, "resolve_timeout", "4.4.3", f"no answer from DNS for {host}") from None
    except (OSError, UnicodeError) as error:
        unknown = not isinstance(error, socket.gaierror) or error.errno not in (socket.EAI_AGAIN, socket.EAI_FAIL)
        code = "host_not_found" if unknown else "resolve_failed"
        raise local(Stage.RESOLVE, code, "4.4.3", f"cannot resolve {host}: {_words(error)}") from None
    addresses, reasons = [], []
    for family, _, _, _, sockaddr in found:
        reason = check(str(sockaddr[0]), port)
        if reason is None:
            addresses.append(Address(family, sockaddr))  # type: ignore[arg-type]  # no other families with TCP
        else:
            reasons.append(f"{sockaddr[0]}: {reason}")
    if not addresses:
        raise local(Stage.CONNECT, "egress_denied", "4.7.0", "; ".join(reasons) or f"{host} has no address")
    return addresses


async def connect(addresses: list[Address], deadline_s: float) -> tuple[socket.socket, Address]:
    """Return a connected, non-blocking socket to the first address that answers. Raises Trouble.

    Each address has a short head start, then the next is tried beside it, so that a dead IPv6 route costs little.
    """
    errors: list[OSError] = []
    tasks: dict[asyncio.Task[socket.socket], Address] = {}
    waiting = list(addresses)
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline_s
    try:
        while waiting or tasks:
            if waiting:
                address = waiting.pop(0)
                tasks[loop.create_task(_connect_one(address))] = address
            patience = min(_STAGGER_S, end - loop.time()) if waiting else end - loop.time()
            done, _ = await asyncio.wait(tasks, timeout=max(0.0, patience), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                address = tasks.pop(task)
                error = task.exception()
                if error is None:
                    return task.result(), address
                if not isinstance(error, OSError):
                    raise error
                errors.append(error)
            if loop.time() >= end:
                raise local(Stage.CONNECT, "connect_timeout", "4.4.1", f"no answer within {deadline_s:g} s")
        raise _connect_trouble(errors)
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, socket.socket):  # It came second.
                result.close()


async def _connect_one(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def _connect_trouble(errors: list[OSError]) -> Trouble:
    refused = all(isinstance(error, ConnectionRefusedError) for error in errors)
    words = "; ".join(dict.fromkeys(_words(error) for error in errors))
    if any(error.errno in _OURS for error in errors):  # No fault of the provider's, whose breaker must not open.
        reply = Reply(451, "4.3.1", f"this machine cannot connect: {words}")
        return Trouble(Stage.CONNECT, "connect_unreachable", reply, fault=Fault.MESSAGE)
    return local(Stage.CONNECT, "connect_refused" if refused else "connect_unreachable", "4.4.1", words)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno).lower()  # asyncio has words of its own, which say less
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
