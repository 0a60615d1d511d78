"""Keep-alive clients with a ledger: every request ends as ok, refused, reset,
lost or wrong, and none is forgotten.

    with Clients(node.address) as clients:
        clients.add(routes, 32)
        clients.progress(1000)
    clients.ledger.count["reset"]

They run on a loop in a thread of their own. A route is (name, bytes of the
request, check of the answer). An answer that says X-Worker tells which worker
the connection is with.
"""

import asyncio
import collections
import dataclasses
import random
import threading
import time

from support.node import eventually

KINDS = ("ok", "refused", "reset", "lost", "wrong")
LOST_SECONDS = 60.0


class Wrong(Exception):
    pass


def request(method, target, body=None, headers=()):
    lines = [f"{method} {target} HTTP/1.1", "Host: bench.invalid", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def expect(*statuses, body=None, contains=None, note=None):
    """A check: the status, and all or a part of the body."""
    def check(got, _, text):
        if got not in statuses or (body is not None and text != body) or \
                (contains is not None and contains not in text):
            raise Wrong(f"{got} {text[:120]!r}")
        return note(text) if note else None
    return check


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


@dataclasses.dataclass
class Loss:
    kind: str     # refused, reset or lost
    route: str
    worker: str   # X-Worker of the connection; None: it had no answer yet
    opened: float
    at: float


class Ledger:
    def __init__(self):
        self.count = collections.Counter({kind: 0 for kind in KINDS})
        self.losses = []
        self.wrong = []
        self.seconds = collections.defaultdict(list)
        self.seen = collections.defaultdict(set)
        self.settled = None  # settled(name, answer, seconds) of each answer

    def lose(self, kind, route, connection):
        self.count[kind] += 1
        self.losses.append(Loss(kind, route, connection.worker,
                                connection.opened, time.monotonic()))

    def settle(self, name, check, answer, seconds):
        self.seconds[name].append(seconds)
        if self.settled:
            self.settled(name, answer, seconds)
        try:
            note = check(*answer)
        except Wrong as error:
            self.count["wrong"] += 1
            self.wrong.append((name, str(error)))
            return
        self.count["ok"] += 1
        if note is not None:
            self.seen[name].add(note)

    def failed(self):
        return sum(self.count[kind] for kind in KINDS if kind != "ok")

    def text(self):
        return ", ".join(f"{self.count[kind]} {kind}" for kind in KINDS)

    def percentile(self, names, share):
        """Of how long answers took, in seconds."""
        times = sorted(t for name in names for t in self.seconds[name])
        return times[min(len(times) - 1, int(len(times) * share))] \
            if times else 0.0


class Connection:
    def __init__(self, address):
        self.address = address
        self.reader = self.writer = self.worker = None
        self.opened = time.monotonic()

    async def open(self):
        if self.writer is not None:
            return
        self.opened = time.monotonic()
        if isinstance(self.address, str):
            pair = await asyncio.open_unix_connection(self.address)
        else:
            pair = await asyncio.open_connection(*self.address)
        self.reader, self.writer = pair

    async def ask(self, data):
        self.writer.write(data)
        answer = await asyncio.wait_for(read_response(self.reader),
                                        LOST_SECONDS)
        self.worker = answer[1].get("x-worker", self.worker)
        return answer

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = self.worker = None


class Clients:
    def __init__(self, address):
        self.address = address
        self.ledger = Ledger()
        self.ending = False
        self.loop = asyncio.new_event_loop()
        self.tasks = []
        self.thread = threading.Thread(target=self.loop.run_forever,
                                       daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending = True
        for task in self.tasks:
            task.result(LOST_SECONDS + 30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()

    def add(self, routes, count=1, pause=0.0):
        """So many more clients, each asks for one of the routes after the
        other, by chance, with a pause between."""
        for _ in range(count):
            self.tasks.append(asyncio.run_coroutine_threadsafe(
                self.live(routes, pause), self.loop))

    def progress(self, answers, seconds=60.0):
        """Waits until so many more are ok."""
        goal = self.ledger.count["ok"] + answers
        eventually(lambda: self.ledger.count["ok"] >= goal,
                   f"{answers} more answers ({self.ledger.text()})", seconds)

    # ---- the thread ----

    async def live(self, routes, pause):
        connection = Connection(self.address)
        while not self.ending:
            await self.step(connection, *random.choice(routes))
            if pause:
                await asyncio.sleep(pause)
        connection.close()

    async def step(self, connection, name, data, check):
        try:
            await connection.open()
        except OSError as error:
            refused = isinstance(error, (ConnectionRefusedError,
                                         FileNotFoundError))
            self.ledger.lose("refused" if refused else "reset", name,
                             connection)
            await asyncio.sleep(0.001)
            return
        began = time.monotonic()
        try:
            answer = await connection.ask(data)
        except asyncio.TimeoutError:
            self.ledger.lose("lost", name, connection)
            connection.close()
            return
        except (OSError, asyncio.IncompleteReadError):
            self.ledger.lose("reset", name, connection)
            connection.close()
            return
        self.ledger.settle(name, check, answer, time.monotonic() - began)
        if answer[1].get("connection") == "close":
            connection.close()
