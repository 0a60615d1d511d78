"""Clients that are slow or greedy on purpose: each is bounded in time and
memory, and others are served meanwhile."""

import contextlib
import select
import socket
import time

import pytest

from support.client import Client, Closed, build, chunks
from support.node import eventually
from support.resident import resident

APP = {
    "app.lua": '''
local moonshine = require "moonshine"
local app = moonshine.app()
app:get("/hello", function(c) return "hello" end)
app:get("/big", function(c) return ("x"):rep(20000000) end)
app:get("/some", function(c) return ("x"):rep(20000) end)
app:post("/echo", function(c) return tostring(#c:body()) end)
app:post("/file", function(c) return tostring(c:body_file().size) end,
    { body = "file", body_limit = "8m" })
app:post("/stream", function(c)
    local n = 0
    for piece in c.read, c do n = n + #piece end
    return tostring(n)
end, { body = "stream" })
app:static("/files", "public")
return app
''',
    "public/data.bin": b"0123456789" * 1000,
}
HASTY = {"header_timeout": "500ms", "body_timeout": "500ms",
         "write_timeout": "1s", "keepalive_timeout": "1s", "timeout": "none"}


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP, settings=HASTY)


@pytest.fixture(scope="module")
def patient(start_shared):
    return start_shared(APP)


def drip(client, data, pause=0.05, seconds=15):
    """Sends byte by byte until the server answers or closes; what it said."""
    deadline = time.monotonic() + seconds
    for byte in data:
        assert time.monotonic() < deadline, "it goes on for ever"
        with contextlib.suppress(OSError):
            client.send(bytes([byte]))
        if select.select([client.sock], [], [], pause)[0]:
            break
    with contextlib.suppress(Closed):
        return client.read_response().status
    return None


# Slow

@pytest.mark.parametrize("data", [
    b"GET /hello HTTP/1.1\r\nHost: x\r\nX-A: " + b"b" * 2000,
    b"\r\n" * 1000,
    b"GET /" + b"a" * 2000,
    b"A" * 2000,
], ids=["field", "empty lines", "target", "method"])
def test_a_byte_now_and_then_extends_no_head(node, data):
    with Client(node.address) as client:
        assert drip(client, data) == 408
        assert client.closed()
    assert node.get("/hello").text == "hello"


@pytest.mark.parametrize("target", ["/echo", "/file"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_byte_now_and_then_extends_no_body(node, target, chunked):
    """Although the rest of its time is none."""
    with Client(node.address) as client:
        if chunked:
            client.send(build("POST", target, {"Transfer-Encoding": "chunked"}))
            assert drip(client, b"1\r\na\r\n" * 2000) == 408
        else:
            client.send(build("POST", target, {"Content-Length": "2000"}))
            assert drip(client, b"a" * 2000) == 408
        assert client.closed()
    assert node.get("/hello").text == "hello"


def test_a_body_that_gets_on_takes_its_time(node):
    """Several times body_timeout, at more than the least rate."""
    with Client(node.address) as client:
        client.send(build("POST", "/file", {"Content-Length": "60000"}))
        for n in range(30):
            client.send(b"a" * 2000)
            if n < 29:
                assert not select.select([client.sock], [], [], 0.06)[0]
        assert client.read_response().text == "60000"


def test_a_streamed_body_may_come_slowly(node):
    """What the application reads as it comes is between it and the client."""
    with Client(node.address) as client:
        client.send(build("POST", "/stream", {"Content-Length": "20"}))
        for _ in range(20):
            client.send(b"a")
            select.select([client.sock], [], [], 0.06)
        assert client.read_response().text == "20"


def test_a_slow_reader_is_dropped(node):
    """One byte at a time through a tiny window is no progress. What the kernel
    holds for it goes at once, else it would be sent for hours."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    sock.settimeout(20)
    with contextlib.closing(sock):
        sock.connect(node.address)
        sock.sendall(build("GET", "/big"))
        deadline = time.monotonic() + 30
        with pytest.raises(ConnectionResetError):
            while time.monotonic() < deadline:
                assert sock.recv(1)
                select.select([], [], [], 0.01)
    assert node.get("/hello").text == "hello"


def test_half_open_connections_are_reaped(node):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(node.address))
                   for _ in range(300)]
        assert node.get("/hello").text == "hello"
        for client in clients:
            assert client.read_rest() == b""


def test_what_a_slow_connection_costs(patient):
    """Half a head, half a small body: at most 16 KiB each."""
    worker, = patient.children()
    kinds = [build("GET", "/hello", {"A": "b" * 500})[:-2],
             build("POST", "/echo", {"Content-Length": "4000"}) + b"a" * 500]
    for data in kinds:
        with contextlib.ExitStack() as stack:
            warm = [stack.enter_context(Client(patient.address))
                    for _ in range(100)]
            for client in warm:
                client.send(data)
            assert patient.get("/hello").text == "hello"
            before = resident(worker)["RssAnon"]
            slow = [stack.enter_context(Client(patient.address))
                    for _ in range(400)]
            for client in slow:
                client.send(data)
            for _ in range(20):
                assert patient.get("/hello").text == "hello"
            assert (resident(worker)["RssAnon"] - before) / 400 <= 16 * 1024


# Greedy

def test_pipelining_without_reading_is_bounded(patient):
    """Neither answers nor requests pile up in the server."""
    worker, = patient.children()
    with Client(patient.address) as client:
        client.sock.setblocking(False)
        before = resident(worker)["RssAnon"]
        requests = build("GET", "/some") * 500
        sent, blocked = 0, 0
        while sent < 60000000 and blocked < 20:
            try:
                sent += client.sock.send(requests)
                blocked = 0
            except BlockingIOError:
                blocked += 1
                assert patient.get("/hello").text == "hello"
        assert blocked == 20, "it would take everything"
        assert resident(worker)["RssAnon"] - before < 8 << 20


def test_too_large_an_upload_is_refused_early(patient):
    """Before the body, or in the middle of it; the answer can be read."""
    with Client(patient.address) as client:
        client.send(build("POST", "/echo", {"Content-Length": "100000000",
                                            "Expect": "100-continue"}))
        response = client.read_response()
        assert (response.status, response.interim) == (413, [])
        assert response.header("Connection") == "close"
    for headers, body in (
            ({"Content-Length": "100000000"}, b"a" * 3000000),
            ({"Transfer-Encoding": "chunked"}, chunks(b"a" * 3000000))):
        with Client(patient.address) as client:
            with contextlib.suppress(OSError):
                client.send(build("POST", "/echo", headers) + body)
            response = client.read_response()
            assert response.status == 413
            assert response.header("Connection") == "close"
            assert client.closed()


@pytest.mark.parametrize("value", [
    "bytes=" + ",".join(f"{n}-{n + 5000}" for n in range(1300)),
    "bytes=" + ",".join("0-" for _ in range(5000)),
    "bytes=" + ",".join(f"-{n}" for n in range(1, 5000)),
    "bytes=" + "," * 20000 + "0-1",
    "bytes=0-1," * 3000,
    "bytes=" + "9" * 20000 + "-",
])
def test_ranges_do_not_multiply(patient, value):
    """However many are asked for, at most the file is sent."""
    response = patient.get("/files/data.bin", {"Range": value})
    assert response.status in (200, 206, 416)
    assert len(response.body) <= (1000 if response.status == 416 else 10000)


@pytest.mark.parametrize("name, value", [
    ("Accept", ",".join(f"a/b{n};q=0.{n % 10}" for n in range(2000))),
    ("Accept", "a/b;" + ";".join(f"c{n}=d" for n in range(3000))),
    ("Accept-Encoding", ",".join(f"x{n};q=0.1" for n in range(2500))),
    ("Accept-Language", ",".join(f"x-{n}" for n in range(4000))),
    ("If-None-Match", ",".join(f'"{n:05}"' for n in range(3500))),
    ("If-Match", ",".join(f'"{n:05}"' for n in range(3500))),
    ("Cookie", "; ".join(f"a{n}=b" for n in range(3500))),
    ("Connection", ",".join(f"x{n}" for n in range(4000))),
    ("X-Forwarded-For", ",".join("192.0.2.1" for _ in range(3000))),
    ("Expect", "," * 30000),
])
def test_long_lists_are_read_or_refused(patient, name, value):
    with Client(patient.address) as client:
        response = client.get("/files/data.bin", {name: value})
        assert response.status in (200, 304, 400, 412, 417, 431)


def test_a_flood_of_fields_is_refused(patient):
    many = [(f"X-{n}", "v") for n in range(2000)]
    with Client(patient.address) as client:
        with contextlib.suppress(OSError):
            client.send(build("GET", "/hello", many))
        assert client.read_response().status == 431
        assert client.closed()


def test_the_kernel_holds_little_for_who_does_not_read(patient):
    """By itself it would take megabytes for each."""
    def queued(client):
        here = f":{client.sock.getsockname()[1]:04X}"
        with open("/proc/net/tcp", encoding="ascii") as table:
            for line in table:
                _, _, remote, state, queues = line.split()[:5]
                if remote.endswith(here) and state == "01":
                    return int(queues.partition(":")[0], 16)
        return 0

    with Client(patient.address) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(build("GET", "/big"))
        last = 0

        def is_full():
            nonlocal last
            before, last = last, queued(client)
            for _ in range(20):
                assert patient.get("/hello").text == "hello"
            return last > 0 and last == before

        eventually(is_full, "it takes no more")
        assert last <= 512 * 1024
