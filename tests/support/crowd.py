"""Visitors with sessions, and what must hold for each of them whatever happens
to the store.

    with Crowd([node.address], users=16) as crowd:
        redis.pause()
        crowd.wait_for(503)
    crowd.operations, crowd.statuses, crowd.latencies

Each visitor counts, takes notes, reads, leaves in the middle of a request; one
request at a time, over its own connection, with its own cookie. Every answer is
checked: it is 200, or 503 with what belongs to it; a session holds what its owner
put there and nothing of anybody else; no increment that was confirmed is missing;
no cookie is set but for a session that begins. Routes without a session, and
those that can do without, always answer 200. What was wrong is raised at the end
of the block.
"""

import asyncio
import collections
import json
import random
import threading
import time

from support.node import eventually

APP = r"""
local function owned(c)
    local session = c:session()
    return { owner = session:get("owner"), count = session:get("count"),
        note = session:get("note") }
end
app:get("/plain", function() return "plain" end)
app:get("/who", owned)
app:get("/maybe", owned, { session = "optional" })
app:post("/begin", function(c)
    local session = c:session()
    session:set("owner", c:query("owner"))
    session:set("count", 0)
    return owned(c)
end)
app:post("/note", function(c)
    c:session():set("note", c:query_int("note", {}))
    return owned(c)
end, { session = "required" })
app:post("/count", function(c)
    local session = c:session()
    local ok, message, code = session:update(function(view)
        if view:get("owner") then
            view:set("count", view:get("count") + 1)
        end
        return true
    end)
    return ok and owned(c) or c:fail(code, message)
end)
"""
# How often each is asked for.
MIX = ["/who"] * 5 + ["/note"] * 3 + ["/count"] * 3 + ["/plain"] * 2 + \
    ["/maybe"] * 2
HANG_SECONDS = 10.0
UNAVAILABLE = "the session store does not answer"


class Wrong(AssertionError):
    pass


class Visitor:
    """One user: what it did, and what its session may therefore hold."""

    def __init__(self, crowd, number):
        self.crowd = crowd
        self.random = random.Random(f"{crowd.seed}-{number}")
        self.owner = f"v{number}-{self.random.getrandbits(64):x}"
        self.reader = self.writer = None
        self.asked_at = None  # a request is under way since
        self.forget()

    def forget(self):
        self.cookie = None
        self.tried = self.seen = 0  # increments: asked for, known
        self.notes = 0              # as many were taken
        self.sure = None            # the note, if no attempt was in doubt

    def wrong(self, target, text):
        raise Wrong(f"{self.owner}: {target}: {text}")

    # ---- bytes ----

    async def send(self, target):
        if self.writer is None:
            address = self.random.choice(self.crowd.addresses)
            self.reader, self.writer = await asyncio.open_connection(*address)
        method = "GET" if target in ("/plain", "/who", "/maybe") else "POST"
        query = {"/begin": f"?owner={self.owner}",
                 "/note": f"?note={self.notes}"}.get(target, "")
        cookie = f"Cookie: id={self.cookie}\r\n" if self.cookie else ""
        self.writer.write(
            f"{method} {target}{query} HTTP/1.1\r\nHost: a\r\n{cookie}"
            "Content-Length: 0\r\n\r\n".encode())

    async def receive(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = collections.defaultdict(list)
        for line in head[1:]:
            name, _, value = line.partition(": ")
            fields[name.lower()].append(value)
        length = int(fields["content-length"][0])
        body = await self.reader.readexactly(length) if length else b""
        return int(head[0].split(" ")[1]), fields, body.decode()

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None

    # ---- one operation ----

    async def step(self):
        target = "/begin" if self.cookie is None else self.random.choice(MIX)
        self.tried += target == "/count"
        self.notes += target == "/note"
        leaves = target != "/begin" and self.random.random() < self.crowd.aborts
        self.asked_at = began = time.monotonic()
        try:
            await self.send(target)
            if leaves:
                await asyncio.sleep(self.random.random() * 0.005)
                self.close()
                self.doubt(target)
                self.crowd.statuses["left"] += 1
                return
            status, fields, body = await self.receive()
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            self.doubt(target)
            if not self.crowd.may_cut:
                self.wrong(target, "the connection was cut")
            self.crowd.statuses["cut"] += 1
            await asyncio.sleep(0.01)
            return
        finally:
            self.asked_at = None
        self.crowd.note(target, status, time.monotonic() - began)
        if status == 503:
            self.check_refusal(target, fields, body)
            self.doubt(target)
            await asyncio.sleep(0.01)
        elif status == 200:
            self.check(target, fields, body)
        else:
            self.wrong(target, f"{status} {body}")

    def doubt(self, target):
        if target == "/note":
            self.sure = None

    def check_refusal(self, target, fields, body):
        if target in ("/plain", "/maybe"):
            self.wrong(target, f"503 {body}")
        elif fields["retry-after"] != ["1"] or \
                json.loads(body)["detail"] != UNAVAILABLE:
            self.wrong(target, f"{dict(fields)} {body}")
        elif fields["set-cookie"]:
            self.wrong(target, f"503 with {fields['set-cookie']}")

    def check(self, target, fields, body):
        if target == "/plain":
            if fields["set-cookie"] or body != "plain":
                self.wrong(target, f"{fields['set-cookie']} {body}")
            return
        held = json.loads(body)
        lost = "owner" not in held and self.crowd.lossy
        if target == "/begin":
            self.begin(target, fields["set-cookie"])
        elif fields["set-cookie"] and not lost:
            self.wrong(target, f"another cookie: {fields['set-cookie']}")
        if target == "/maybe" and held == {}:
            self.crowd.statuses["empty"] += 1
            return
        if lost:  # and what was set now is another session
            self.crowd.statuses["lost"] += 1
            self.forget()
            return
        if held.get("owner") != self.owner:
            self.wrong(target, f"holds {held}")
        self.check_count(target, held["count"])
        self.check_note(target, held.get("note"))

    def begin(self, target, cookies):
        if len(cookies) != 1 or not cookies[0].startswith("id="):
            self.wrong(target, f"cookies {cookies}")
        self.cookie = cookies[0].split(";")[0].removeprefix("id=")
        if len(self.cookie) != 43 or self.cookie in self.crowd.ids:
            self.wrong(target, f"the id {self.cookie}")
        self.crowd.ids.add(self.cookie)

    def check_count(self, target, count):
        if count > self.tried or (count < self.seen and not self.crowd.lossy):
            self.wrong(target, f"counts {count}: {self.seen} are known, "
                               f"{self.tried} were tried")
        self.seen = count

    def check_note(self, target, note):
        if target == "/note":
            if note != self.notes:
                self.wrong(target, f"kept {note} instead of {self.notes}")
            self.sure = note if not self.crowd.troubled else None
        elif (note or 0) > self.notes or (
                self.sure is not None and note != self.sure
                and not self.crowd.troubled):
            self.wrong(target, f"note {note}, not {self.sure}")


class Crowd:
    """addresses: (host, port) of the nodes. lossy: the store may forget what it
    confirmed. may_cut: nodes die. aborts: share of requests that are left.
    troubled: what was not confirmed may still happen, later."""

    def __init__(self, addresses, users=16, aborts=0.0, lossy=False,
                 may_cut=False, troubled=True, seed="crowd", limit=None):
        self.addresses, self.aborts = addresses, aborts
        self.lossy, self.may_cut, self.troubled = lossy, may_cut, troubled
        self.seed, self.limit = seed, limit
        self.ids, self.statuses = set(), collections.Counter()
        self.latencies = collections.defaultdict(list)  # (target, status): s
        self.operations = 0
        self.ending = False
        self.failure = None
        self.visitors = [Visitor(self, n) for n in range(users)]
        self.thread = threading.Thread(target=self.run, daemon=True)

    # ---- what a test calls ----

    def __enter__(self):
        self.thread.start()
        self.wait_for(200, len(self.visitors))
        return self

    def __exit__(self, kind, *_):
        self.ending = True
        self.thread.join()
        if kind is None:
            self.ok()

    def ok(self):
        if self.failure is not None:
            raise self.failure

    def wait_for(self, status, count=20, seconds=60.0, targets=None):
        """Until so many more answers of that status came."""
        targets = targets or ("/begin", "/who", "/note", "/count")
        now = lambda: sum(self.statuses[t, status] for t in targets)
        before = now()

        def enough():
            self.ok()
            return now() - before >= count or not self.thread.is_alive()
        try:
            eventually(enough, f"{count} answers {status}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.statuses}") from None

    def slowest(self):
        return max(max(some) for some in self.latencies.values())

    def final(self):
        """After the end, with a store that works or will soon: all counts once
        more. What is known, and what was tried."""
        deadline = time.monotonic() + 20

        async def look(visitor):
            status = 503
            while status == 503 and time.monotonic() < deadline:
                visitor.close()
                await visitor.send("/who")
                status, fields, body = await visitor.receive()
            if status != 200:
                visitor.wrong("/who", f"{status} {body}")
            visitor.check("/who", fields, body)
            visitor.close()

        async def all_of_them():
            for visitor in self.visitors:
                if visitor.cookie is not None:  # else it never got to begin
                    await look(visitor)
        asyncio.run(all_of_them())
        return sum(v.seen for v in self.visitors), \
            sum(v.tried for v in self.visitors)

    # ---- the thread ----

    def note(self, target, status, seconds):
        self.operations += 1
        self.statuses[target, status] += 1
        self.statuses[status] += 1
        self.latencies[target, status].append(seconds)

    def run(self):
        try:
            asyncio.run(self.all())
        except BaseException as error:  # pylint: disable=broad-except
            self.failure = error

    async def all(self):
        tasks = [asyncio.ensure_future(self.live(v)) for v in self.visitors]
        watch = asyncio.ensure_future(self.watch())
        await asyncio.wait([*tasks, watch],
                           return_when=asyncio.FIRST_EXCEPTION)
        for task in [*tasks, watch]:
            if not task.done():
                task.cancel()
        done = await asyncio.gather(*tasks, watch, return_exceptions=True)
        for visitor in self.visitors:
            visitor.close()
        for one in done:
            if isinstance(one, Exception):
                raise one

    async def live(self, visitor):
        while not self.ending:
            await visitor.step()
            if self.limit and self.operations >= self.limit:
                self.ending = True

    async def watch(self):
        while not self.ending:
            await asyncio.sleep(0.2)
            for visitor in self.visitors:
                at = visitor.asked_at
                if at is not None and time.monotonic() - at > HANG_SECONDS:
                    visitor.wrong("any", f"no answer within {HANG_SECONDS} s")
