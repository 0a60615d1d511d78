"""output_memory: answers wait for slow clients, but not without a bound."""

import collections
import contextlib
import socket

import pytest

from support.admin import Admin
from support.client import Client, Closed
from support.node import eventually

BIG = 3 << 20
HEAD_LEAST = 100  # bytes
APP = f'''
local big = ("x"):rep({BIG})
app:get("/big", function() return big end)
app:get("/list", function() return {{ big, big }} end)
app:get("/ok", function() return "ok" end)
app:on(503, function() return "shaped in Lua" end)
'''
SETTINGS = {"output_memory": "8m", "log.slow": "none"}


@pytest.fixture(name="node", scope="module")
def fixture_node(start_shared):
    return start_shared(APP, settings=SETTINGS)


class Reader(Client):
    """Asks, and takes nothing until it is told; nor does the kernel, much."""

    def __init__(self, node, target="/big"):
        super().__init__(node.address, 20)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def shed(node):
    return Admin(node).workers()[0]["shed"]


def refusals(node):
    return Admin(node).workers()[0]["overload_refusals"]


def resident(node):
    return Admin(node).workers()[0]["resident_bytes"]


@pytest.mark.parametrize("target", ["/big", "/list"])
def test_answers_that_nobody_takes_are_given_up(node, target):
    """The others are served; memory does not grow with their number."""
    assert node.get("/ok").text == "ok"
    before, start = shed(node), resident(node)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(node, target))
                   for _ in range(20)]
        eventually(lambda: node.get("/ok").text == "ok", "there is room again")
        eventually(lambda: shed(node) > before)
        if not node.sanitized():
            assert resident(node) - start < 40 << 20
        node.wait_log("wait for their clients, more than output_memory")
        ends = collections.Counter(end(reader) for reader in readers)
    assert ends["cut"] > 0
    assert set(ends) <= {"cut", 200, 503}


def end(reader):
    try:
        return reader.read_response().status
    except (Closed, OSError):
        return "cut"


def refused(client):
    answer = client.get("/ok")
    return answer if answer.status == 503 else None


def test_who_takes_what_comes_is_not_given_up(node):
    """Others are refused meanwhile, in C, and told to come back."""
    before = shed(node)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(node)) for _ in range(3)]
        with Client(node.address) as client:
            answer = eventually(lambda: refused(client), "there is no room")
            assert answer.header("Retry-After") == "1"
            assert answer.json()["detail"] == "The server is overloaded."
            assert client.get("/-/live").status == 200
        left = {reader: BIG + HEAD_LEAST for reader in readers}
        while left:
            for reader in list(left):
                got = len(reader.sock.recv(min(left[reader], 65536)))
                assert got > 0, "it was cut"
                left[reader] -= got
                if left[reader] == 0:
                    del left[reader]
    eventually(lambda: node.get("/ok").status == 200, "there is room again")
    assert shed(node) == before
    assert refusals(node) > 0


def test_it_can_be_turned_off(start):
    node = start(APP, settings=dict(SETTINGS, output_memory="none"))
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(node)) for _ in range(8)]
        for _ in range(20):
            assert node.get("/ok").text == "ok"
        for reader in readers:
            answer = reader.read_response()
            assert (answer.status, len(answer.body)) == (200, BIG)
