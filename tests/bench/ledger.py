"""Keep-alive clients with a ledger: every request ends as right, wrong, reset
or refused, and none is forgotten."""

import asyncio
import collections
import random
import time


class Wrong(Exception):
    pass


async def read_response(reader):
    """Status, lower-case headers, body; raises on anything cut short."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = head.split("\r\n")
    status = int(lines[0].split(" ")[1])
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            piece = await reader.readexactly(size + 2)
            if size == 0:
                return status, headers, body
            body += piece[:-2]
    length = int(headers.get("content-length", 0))
    return status, headers, await reader.readexactly(length)


class Ledger:
    def __init__(self, address):
        self.address = address
        self.count = collections.Counter()
        self.wrong = []
        self.seconds = collections.defaultdict(list)
        self.seen = collections.defaultdict(set)
        self.stop = False

    async def client(self, routes, pause=0.0):
        """Asks at random for (name, request bytes, check) until stopped."""
        reader = writer = None
        while not self.stop:
            name, request, check = random.choice(routes)
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(
                        *self.address)
            except ConnectionRefusedError:
                self.count["refused"] += 1
                continue
            except OSError:
                self.count["reset while connecting"] += 1
                continue
            began = time.monotonic()
            try:
                writer.write(request)
                status, headers, body = await asyncio.wait_for(
                    read_response(reader), 60)
            except (OSError, asyncio.IncompleteReadError,
                    asyncio.TimeoutError) as error:
                self.count["reset" if not isinstance(
                    error, asyncio.TimeoutError) else "no answer"] += 1
                writer.close()
                writer = None
                continue
            self.seconds[name].append(time.monotonic() - began)
            try:
                note = check(status, headers, body)
                self.count["right"] += 1
                if note is not None:
                    self.seen[name].add(note)
            except Wrong as error:
                self.count["wrong"] += 1
                self.wrong.append((name, str(error)))
            if headers.get("connection") == "close":
                writer.close()
                writer = None
            if pause:
                await asyncio.sleep(pause)
        if writer is not None:
            writer.close()

    def percentile(self, names, share):
        times = sorted(t for name in names for t in self.seconds[name])
        return times[min(len(times) - 1, int(len(times) * share))]


def request(method, target, body=None, headers=()):
    lines = [f"{method} {target} HTTP/1.1", "Host: bench.invalid", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def expect(status, body=None, contains=None, note=None):
    """A check: the status, and all or a part of the body."""
    def check(got, _, text):
        if got != status or (body is not None and text != body) or \
                (contains is not None and contains not in text):
            raise Wrong(f"{got} {text[:120]!r}")
        return note(text) if note else None
    return check
