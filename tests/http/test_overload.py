"""Overload: more comes than a worker can do. What would have to wait is refused
at once, as much is done as before, and it ends by itself."""

import contextlib
import threading
import time

import pytest

from support.admin import Admin
from support.client import Client, Closed
from support.node import eventually

# 30 ms of work in one slice, so that a turn with many of them takes long.
APP = '''
local served = 0
app:get("/work", function(c)
    local till = moonshine.clock() + 0.03
    while moonshine.clock() < till do end
    served = served + 1
    return "done"
end)
app:get("/hog", function(c)
    local till = moonshine.clock() + 0.6
    while moonshine.clock() < till do end
    return "done"
end, { cpu_limit = "10s" })
app:get("/quick", function(c) return "quick" end)
app:post("/upload", function(c) return "got it" end)
app:on(503, function(c, err) return "shaped in Lua" end)
'''
SETTINGS = {"shed_lag": "300ms", "log.slow": "none", "slow_slice": "none"}


class Flood:
    """Connections that ask again as soon as they are answered."""

    def __init__(self, node, target="/work", connections=40):
        self.node, self.target = node, target
        self.statuses, self.answers, self.broken = {}, [], []
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, daemon=True)
                        for _ in range(connections)]

    def run(self):
        with Client(self.node.address) as client:
            while not self.over.is_set():
                try:
                    answer = client.get(self.target)
                except (Closed, OSError) as failure:
                    self.broken.append(failure)
                    return
                with self.lock:
                    self.statuses[answer.status] = \
                        self.statuses.get(answer.status, 0) + 1
                    if answer.status != 200:
                        self.answers.append(answer)
                if answer.status != 200:
                    self.over.wait(0.05)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(60)

    def count(self, status):
        with self.lock:
            return self.statuses.get(status, 0)


def worker(node):
    found, = Admin(node).workers()
    return found


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP, settings=SETTINGS)


def test_what_has_to_wait_is_refused(node):
    refused = worker(node)["overload_refusals"]
    with Flood(node) as flood:
        eventually(lambda: flood.count(503) > 50, "it is overloaded", 60)
        done = flood.count(200)
        eventually(lambda: flood.count(200) > done + 20, "it works on", 60)
        # Whoever asks whether it lives is always answered, as is the admin.
        assert node.get("/-/live").status == 200
        assert worker(node)["state"] == "overload"
        text = Admin(node).ask("GET", "/-/metrics").text
        assert "\nmoonshine_workers_overloaded 1\n" in text
        # Bodies are not waited for.
        with Client(node.address) as client:
            for _ in range(50):
                client.send(b"POST /upload HTTP/1.1\r\nHost: x\r\n"
                            b"Content-Length: 3\r\n\r\nabc")
                if client.read_response().status == 503:
                    break
    assert flood.broken == []
    assert set(flood.statuses) == {200, 503}
    for answer in flood.answers:
        assert answer.header("Retry-After") == "1"
        assert answer.header("Content-Type") == "application/problem+json"
        assert answer.json()["detail"] == "The server is overloaded."
    eventually(lambda: worker(node)["overload_refusals"] >=
               refused + len(flood.answers))
    eventually(lambda: worker(node)["state"] == "serving", "it recovers")
    for _ in range(20):
        assert node.get("/work").status == 200
    assert "overloaded: a turn of the loop" in node.log()
    node.wait_log("not overloaded any more")


def test_one_slow_request_is_no_overload(node):
    """It holds others up, but they are served."""
    before = worker(node)["overload_refusals"]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(node.address))
                   for _ in range(20)]
        for client in clients:
            assert client.get("/quick").status == 200
        hog = stack.enter_context(Client(node.address))
        hog.send(b"GET /hog HTTP/1.1\r\nHost: x\r\n\r\n")
        for client in clients:
            assert client.get("/quick").status == 200
        assert hog.read_response().status == 200
    assert worker(node)["overload_refusals"] == before


def test_slow_requests_one_after_the_other_are_no_overload(node):
    """Each makes a beat late; nothing queues but while it runs."""
    before = worker(node)["overload_refusals"]
    with Flood(node, "/quick", connections=4) as flood, \
            Client(node.address) as client:
        for _ in range(5):
            assert client.get("/hog").status == 200
    assert flood.broken == []
    assert set(flood.statuses) == {200}
    assert worker(node)["overload_refusals"] == before


def test_it_can_be_turned_off(start):
    node = start(APP, settings=dict(SETTINGS, shed_lag="none"))
    with Flood(node, connections=30) as flood:
        eventually(lambda: flood.count(200) > 100, "they wait", 60)
        until = time.monotonic() + 1
        eventually(lambda: time.monotonic() > until)
    assert flood.broken == []
    assert set(flood.statuses) == {200}
