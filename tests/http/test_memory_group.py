"""A node in a memory cgroup: what does not fit is refused, and no process is
killed."""

import collections
import contextlib
import selectors
import socket
import time

import pytest

from support.cgroup import MemoryGroup, unavailable
from support.client import build
from support.node import BINARY, Node, eventually

pytestmark = pytest.mark.skipif(
    bool(unavailable()), reason=f"no memory cgroup: {unavailable()}")

APP = '''
app:post("/small", function(c) return tostring(#c:body()) end,
    { body_limit = "100k" })
app:post("/body", function(c) return tostring(#c:body()) end)
app:post("/twice", function(c)
    local text = c:body()
    return tostring(#(text .. text:reverse()))
end)
app:post("/file", function(c) return tostring(c:body_file().size) end,
    { body = "file" })
app:post("/hold", function(c)
    local text = c:body()
    moonshine.sleep(0.5)
    return tostring(#text)
end)
app:get("/hello", function(c) return "hello" end)
local big = ("x"):rep(2^20)
app:get("/big", function(c) return big end)
'''
TARGETS = ["/small", "/body", "/twice", "/file", "/hold"]
SIZE = 1 << 20


class Upload:
    """One request that sends whatever the server takes, and its answer."""

    def __init__(self, address, target):
        self.left = memoryview(
            build("POST", target, {"Content-Length": str(SIZE),
                                   "Connection": "close"}) + b"u" * SIZE)
        self.got = b""
        self.target = target
        self.sock = socket.socket()
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.sock.connect(address)

    def step(self, events):
        """True when it is over."""
        try:
            if events & selectors.EVENT_READ:
                piece = self.sock.recv(65536)
                self.got += piece
                return not piece
            if self.left:
                self.left = self.left[self.sock.send(self.left[:65536]):]
        except BlockingIOError:
            pass
        except OSError:
            return True
        return False

    def wants(self):
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self.left
                                       else 0)

    def status(self):
        return int(self.got[9:12]) if self.got.startswith(b"HTTP/1.1 ") else 0


def upload_all(address, count, seconds=90):
    """All at once; how many ended with which status (0: with none)."""
    statuses = collections.Counter()
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for n in range(count):
            upload = Upload(address, TARGETS[n % len(TARGETS)])
            selector.register(upload.sock, upload.wants(), upload)
        while selector.get_map():
            assert time.monotonic() < deadline, statuses
            for key, events in selector.select(1):
                upload = key.data
                if upload.step(events):
                    selector.unregister(upload.sock)
                    upload.sock.close()
                    statuses[upload.target, upload.status()] += 1
                else:
                    selector.modify(upload.sock, upload.wants(), upload)
    return statuses


@contextlib.contextmanager
def node_in(group, tmp_path, **settings):
    enter = tmp_path / "enter"
    enter.write_text(f"#!/bin/sh\necho $$ > {group.path}/cgroup.procs\n"
                     f'exec {BINARY} "$@"\n')
    enter.chmod(0o755)
    with Node(APP, workers=2, binary=str(enter),
              settings={"log.access": "off", **settings}) as node:
        if node.sanitized():
            pytest.skip("sanitizers need more memory than that")
        workers = node.children()
        yield node
        print("peak", group.peak(), "killed", group.killed())
        assert sorted(node.children()) == sorted(workers)
        assert not group.killed()
        assert node.get("/hello").text == "hello"


@pytest.mark.seconds(240)
def test_500_uploads_in_64_mib(tmp_path):
    with MemoryGroup(64 << 20) as group, node_in(group, tmp_path) as node:
        statuses = upload_all(node.address, 500)
        print(dict(statuses))
        assert {code for _, code in statuses} <= {200, 413, 503}, statuses
        assert statuses["/small", 413] == 100
        assert sum(n for (_, code), n in statuses.items() if code == 200) > 0


def narrow_client(address):
    """The kernel takes little for it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(address)
    sock.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
    return sock


@pytest.mark.seconds(240)
def test_answers_that_nobody_takes_in_64_mib(tmp_path):
    """100 MiB of them; those who do take theirs are served."""
    with MemoryGroup(64 << 20) as group, node_in(group, tmp_path) as node, \
            contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(narrow_client(node.address))
        eventually(lambda: all(node.get("/hello").text == "hello"
                               for _ in range(20)), "they are given up")
        answer = node.get("/big")
        assert (answer.status, len(answer.body)) == (200, SIZE)
