"""The table of work: one Row each, for run, measure and report.

`check` proves the answer of each peer before anything is timed and returns
what all later ones must have: a body, or only its length. To add a row: a
route in each peer's file, and a Row here.
"""

import dataclasses
import json

from server import STATIC, static_bytes

ALL = ("moonshine", "nginx_lua", "gin", "fastify", "nginx", "floor")
LUA = ("moonshine", "nginx_lua", "gin", "fastify", "floor")
FILES = ("moonshine", "gin", "fastify", "nginx")
SESSION = ("moonshine", "nginx_lua", "gin", "fastify")

ORDER = {"customer": "Anna of the Moon", "lines": [
    {"item": f"moon lamp number {i}", "count": i + 1, "price": 12.5 + i,
     "gift": i % 2 == 0, "note": "wrap it in silver paper"[:17 + i]}
    for i in range(8)]}


def order_bytes():
    """1 KiB: the note of the last line is as long as it must be."""
    short = 1024 - len(json.dumps(ORDER, separators=(",", ":")))
    ORDER["lines"][-1]["note"] += "." * short
    text = json.dumps(ORDER, separators=(",", ":")).encode()
    assert len(text) == 1024
    return text


ECHO = order_bytes()


def text_is(expected):
    def check(row, server):
        status, _, body = server.ask(row.path, dict(row.headers))
        assert (status, body) == (row.status, expected), (status, body[:200])
        return {"bodies": [body]}
    return check


def user(row, server):
    status, headers, body = server.ask(row.path, dict(row.headers))
    assert status == 200 and headers["X-Served-By"] == "bench", status
    assert headers["Content-Type"].startswith("application/json")
    assert json.loads(body) == {"id": "42", "name": "Anna"}, body
    if server.peer.name != "floor":
        assert server.ask(row.path)[0] == 401
    return {"bodies": [body]}


def echo(row, server):
    status, headers, body = server.ask(row.path, dict(row.headers), "POST",
                                       ECHO)
    assert status == 200 and json.loads(body) == json.loads(ECHO), body
    assert headers["Content-Type"].startswith("application/json")
    if server.peer.name != "floor":
        status, _, _ = server.ask(row.path, dict(row.headers), "POST",
                                  ECHO[:-1])
        assert status == 400, status
    return {"length": len(body)}  # keys come in any order


def any_body(row, server):
    """The status decides; each peer has a body of its own for it, with an id
    of the request or a time in it."""
    for _ in range(3):
        status, _, _ = server.ask(row.path)
    assert status == row.status, status
    return {}


def session(row, server):
    """Counts, for each cookie on its own."""
    for _ in range(2):
        _, headers, _ = server.ask("/login")
        cookie = {"Cookie": headers["Set-Cookie"].split(";")[0]}
        for _ in range(3):
            status, _, body = server.ask(row.path, cookie)
            assert (status, body) == (200, b"anna"), (status, body)
        assert server.ask("/count", cookie)[2] == b"3"
    return {"bodies": [body]}


def cookies(server, count):
    """Cookie headers of new sessions."""
    return [server.ask("/login")[1]["Set-Cookie"].split(";")[0]
            for _ in range(count)]


@dataclasses.dataclass
class Row:
    name: str
    title: str
    path: str
    check: object
    peers: tuple = ALL
    method: str = "GET"
    headers: tuple = ()
    body: bytes = b""
    status: int = 200
    connections: int = 32
    pipeline: int = 1
    session: bool = False
    latency: bool = True      # p50 and p99 at equal load
    instructions: bool = True

    def request(self, cookie=""):
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: 127.0.0.1",
                 "User-Agent: bench", "Accept: */*",
                 *(f"{name}: {value}" for name, value in self.headers)]
        if cookie:
            lines.append(f"Cookie: {cookie}")
        if self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + self.body


JSON = ("Content-Type", "application/json")
TEXT = text_is(b"Hello, World!")

ROWS = [
    Row("text", "text from Lua", "/text", TEXT),
    Row("json", "JSON, path parameter, 3 middleware", "/users/42", user, LUA,
        headers=(("X-Key", "moon"),)),
    Row("echo", "POST JSON echo, 1 KiB", "/echo", echo, LUA, method="POST",
        headers=(JSON,), body=ECHO),
    Row("missing", "404", "/nowhere", any_body, status=404),
    Row("refused", "refused by a rate limit", "/refused", any_body,
        status=429),
    Row("big", "64 KiB body out", "/big", text_is(b"x" * 65536), LUA),
    Row("file4k", "static file, 4 KiB", "/static/4k.txt",
        text_is(static_bytes(STATIC["4k.txt"])), FILES),
    Row("file1m", "static file, 1 MiB", "/static/1m.txt",
        text_is(static_bytes(STATIC["1m.txt"])), FILES),
    Row("session", "session read + write, Redis", "/session", session, SESSION,
        session=True),
    Row("pipeline", "text, pipelined x16", "/text", TEXT, pipeline=16,
        latency=False),
    Row("c10", "text, 10 connections", "/text", TEXT, connections=10,
        instructions=False),
    Row("c64", "text, 64 connections", "/text", TEXT, connections=64,
        instructions=False),
    Row("c1000", "text, 1,000 connections", "/text", TEXT, connections=1000,
        instructions=False),
]
