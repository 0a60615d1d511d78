"""What LuaJIT compiles of an application's routes, and what it gives up.

`record` runs a node of one worker with MOONSHINE_TRACES, asks for the routes in
turn, and returns the events (lua/moonshine/traces.lua) of that worker: while it
loaded the application, of the warm-up, and after that.
"""

import pathlib
import tempfile
import typing

from support.node import Node, eventually


class Request(typing.NamedTuple):
    method: str
    target: str
    body: typing.Optional[str] = None
    type: str = "application/json"
    status: int = 200

    @property
    def name(self):
        return f"{self.method} {self.target}"

    def headers(self, cookie):
        headers = {}
        if self.body is not None:
            headers["Content-Type"] = self.type
        if cookie:
            headers["Cookie"] = cookie
        return headers


# A finalizer that the collector runs meanwhile ends a recording, wherever that
# is.
BY_CHANCE = "error thrown or hook called during recording"


class Event(typing.NamedTuple):
    what: str
    fields: tuple

    def by_chance(self):
        return self.fields[-1].endswith(BY_CHANCE)

    def __str__(self):
        return " ".join((self.what, *self.fields))


class Recorded(typing.NamedTuple):
    load: list
    warm: list
    after: list

    def aborts(self):
        return [e for e in self.after
                if e.what == "abort" and not e.by_chance()]

    def given_up(self):
        return [e for e in self.warm + self.after
                if e.what == "giveup" and not e.by_chance()]


DEMO = (
    Request("GET", "/hello"),
    Request("GET", "/users/1"),
    Request("POST", "/echo", '{"name":"Anna","tags":[1,2]}'),
    Request("GET", "/"),
)
HOT = (
    Request("GET", "/text/moon"),
    Request("POST", "/json", '{"name":"Anna","tags":["a","b"]}'),
    Request("POST", "/bind", '{"name":"Anna","age":30,"tags":["a"]}', status=201),
    Request("GET", "/search?page=3&word=moon"),
    Request("GET", "/counter"),
    Request("GET", "/visits"),
    Request("GET", "/visitor"),
)


def ask(node, requests, rounds):
    """Each request in turn over one connection, with its cookies."""
    cookies = {}
    with node.connect() as client:
        for _ in range(rounds):
            for request in requests:
                answer = client.request(
                    request.method, request.target,
                    headers=request.headers(cookies.get(request)),
                    body=request.body)
                assert answer.status == request.status, (request, answer)
                for cookie in answer.all("Set-Cookie"):
                    cookies[request] = cookie.partition(";")[0]


def read(path, pid):
    events = []
    for line in path.read_text().splitlines():
        process, what, *fields = line.split("\t")
        if int(process) == pid:
            events.append(Event(what, tuple(fields)))
    return events


def record(app, requests, warm_up, rounds):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "traces")
        with Node(app, settings={"log.access": "off"},
                  env={"MOONSHINE_TRACES": str(path)}) as node:
            worker, = eventually(node.children, "a worker")
            load = len(read(path, worker))
            ask(node, requests, warm_up)
            warm = len(read(path, worker))
            ask(node, requests, rounds)
            events = read(path, worker)
    return Recorded(events[:load], events[load:warm], events[warm:])
