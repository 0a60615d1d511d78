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
from support.node import BINARY, Node

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


@pytest.mark.seconds(240)
def test_500_uploads_in_64_mib(tmp_path):
    with MemoryGroup(64 << 20) as group:
        enter = tmp_path / "enter"
        enter.write_text(f"#!/bin/sh\necho $$ > {group.path}/cgroup.procs\n"
                         f'exec {BINARY} "$@"\n')
        enter.chmod(0o755)
        with Node(APP, workers=2, binary=str(enter),
                  settings={"log.access": "off"}) as node:
            if node.sanitized():
                pytest.skip("sanitizers need more memory than that")
            workers = node.children()
            statuses = upload_all(node.address, 500)
            print(dict(statuses), "peak", group.peak(), "killed",
                  group.killed())
            assert {code for _, code in statuses} <= {200, 413, 503}, statuses
            assert statuses["/small", 413] == 100
            assert sum(n for (_, code), n in statuses.items()
                       if code == 200) > 0
            assert sorted(node.children()) == sorted(workers)
            assert not group.killed()
            assert node.get("/hello").text == "hello"
