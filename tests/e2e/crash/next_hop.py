"""The next hop of the crash harness: a mail server in its own process, with a ledger that survives whatever happens.

It shares no code with the gateway. A line is in the ledger, and fsynced, before the 250 leaves: one line for each
message and recipient that it took, also when it withholds the answer. Commands come on stdin, reports go to stdout, a
JSON object a line. Armed for a phase of the conversation, it kills the processes it was told to, there and then.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import sys
from typing import Any

PHASES = ("connect", "ehlo", "mail", "rcpt", "data", "content", "piece", "dot", "taken", "answered")

_END = b"\r\n.\r\n"
_SUBJECT = re.compile(rb"^Subject: (\S+)\r?$", re.M)
_BIG = 100_000
_PIECE = 1 << 19  #: of a large content, as the gateway has it


class _Input:
    """What a client sends, of which some may be put back: the next envelope comes behind a final dot (RFC 2920)."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._rest = b""

    async def readline(self) -> bytes:
        while b"\n" not in self._rest:
            more = await self._reader.read(65_536)
            if not more:
                return b""
            self._rest += more
        line, newline, self._rest = self._rest.partition(b"\n")
        return line + newline

    async def read(self) -> bytes:
        """Return what comes next. Raises EOFError."""
        rest, self._rest = self._rest, b""
        rest = rest or await self._reader.read(65_536)
        if not rest:
            raise EOFError
        return rest

    def put_back(self, octets: bytes) -> None:
        self._rest = octets + self._rest


class NextHop:
    """Takes mail; in a rough mood it also defers, hangs up, and keeps its answer to itself."""

    def __init__(self, ledger: int, seed: int) -> None:
        self._ledger = ledger
        self._random = random.Random(seed)
        self._rough = True
        self._slow_s = 0.0
        self._armed: dict[str, Any] | None = None

    def command(self, line: bytes) -> None:
        """Do as told: {"rough": bool}, {"slow_s": s}, {"arm": phase, "pids": [...], "skip": n}, {"disarm": true}."""
        said = json.loads(line)
        if "rough" in said:
            self._rough = said["rough"]
        self._slow_s = said.get("slow_s", self._slow_s)
        if "arm" in said:
            self._armed = said
        if "disarm" in said:
            self._armed = None

    def _reach(self, phase: str) -> None:
        armed = self._armed
        if armed is None or armed["arm"] != phase:
            return
        if armed["skip"] > 0:
            armed["skip"] -= 1
            return
        self._armed = None
        for pid in armed["pids"]:
            os.kill(pid, signal.SIGKILL)
        print(json.dumps({"fired": phase}), flush=True)

    def _chance(self, probability: float) -> bool:
        return self._rough and self._random.random() < probability

    def _take(self, mark: str, recipients: list[str], how: str) -> None:
        lines = [json.dumps({"mark": mark, "to": address, "how": how}) + "\n" for address in recipients]
        os.write(self._ledger, "".join(lines).encode())
        os.fsync(self._ledger)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(_Input(reader), writer)
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _converse(self, reader: _Input, writer: asyncio.StreamWriter) -> None:
        def say(text: str) -> None:
            writer.write(text.encode() + b"\r\n")

        if self._chance(0.02):
            say("421 4.3.2 not now")
            return
        self._reach("connect")
        say("220 next.hop.test ESMTP")
        recipients: list[str] = []
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                self._reach("ehlo")
                say("250-next.hop.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 50000000")
            elif verb == b"MAIL":
                self._reach("mail")
                recipients = []
                say("451 4.3.0 not this one now" if self._chance(0.02) else "250 2.1.0 ok")
            elif verb == b"RCPT":
                self._reach("rcpt")
                if self._chance(0.03):
                    say("451 4.2.1 not this one now")
                else:
                    recipients.append(line.split(b"<")[1].split(b">")[0].decode())
                    say("250 2.1.5 ok")
            elif verb == b"DATA":
                self._reach("data")
                if not recipients:
                    say("554 5.5.1 no recipients")
                    continue
                if self._chance(0.02):
                    say("451 4.3.0 no data now")
                    continue
                say("354 go on")
                if not await self._content(reader, say, recipients):
                    return
                await writer.drain()
                self._reach("answered")
                recipients = []
            elif verb == b"QUIT":
                say("221 2.0.0 bye")
                return
            else:
                say("250 2.0.0 ok")
            await writer.drain()

    async def _content(self, reader: _Input, say: Any, recipients: list[str]) -> bool:
        """Read the content and answer its dot; False: hang up."""
        content = bytearray()
        hang_up_at = self._random.randrange(1, 1500) if self._chance(0.02) else None
        end = -1
        while end < 0:
            start = max(0, len(content) - len(_END))
            content += await reader.read()
            end = content.find(_END, start)
            if _BIG > len(content) > 20_000 and end < 0:
                self._reach("content")
            if len(content) > _PIECE and end < 0:
                self._reach("piece")
            if hang_up_at is not None and len(content) > hang_up_at:
                # Whether the dot had come by now or not, it was not taken.
                return False
        reader.put_back(bytes(content[end + len(_END) :]))
        self._reach("dot")
        found = _SUBJECT.search(content)
        assert found is not None
        mark = found[1].decode()
        if self._chance(0.02):
            say("451 4.3.1 busy")
            return True
        if self._chance(0.015):
            return False
        withheld = self._chance(0.015)
        self._take(mark, recipients, "withheld" if withheld else "answered")
        self._reach("taken")
        if withheld:
            return False
        if self._slow_s:
            await asyncio.sleep(self._slow_s)
        say("250 2.0.0 taken")
        return True


async def main(ledger_path: str, port: int, seed: int) -> None:
    ledger = os.open(ledger_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    hop = NextHop(ledger, seed)
    server = await asyncio.start_server(hop.converse, "127.0.0.1", port, backlog=500)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        hop.command(line)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
