"""Connections at their edges: who waits for whom, what a client may still
read, and what an impatient, slow or vanishing one costs the others."""

import contextlib
import os
import re
import resource
import select
import socket
import struct
import threading
import time

import pytest

from support.client import Client, build, chunks, connect
from support.node import eventually, processes

APP = r"""
local seen = {}

app:get("/", function() return "hello" end)
app:get("/ip", function(c) return c:ip() end)
app:get("/slow", function(c)
    seen.slow = (seen.slow or 0) + 1
    moonshine.sleep(0.2)
    return "slow"
end)
app:get("/wait", function(c)
    c:defer(function() seen.ended = (seen.ended or 0) + 1 end)
    seen.waiting = (seen.waiting or 0) + 1
    moonshine.sleep(30)
    return "waited"
end)
app:post("/wait", function(c)
    moonshine.sleep(0.3)
    seen.posted = (seen.posted or 0) + 1
    return "waited"
end)
app:get("/seen/:what", function(c) return tostring(seen[c:param("what")] or 0) end)
app:get("/big", function(c) return ("0123456789abcdef"):rep(256 * 1024) end)
app:get("/flood", function(c)
    c:defer(function() seen.flood_over = (seen.flood_over or 0) + 1 end)
    c:stream(function(write)
        local piece = ("x"):rep(32768)
        for i = 1, 4096 do
            seen.flood = i
            if not write(piece) then break end
        end
    end)
end)
app:get("/ticks", function(c)
    c:stream(function(write)
        write("one,")
        moonshine.sleep(0.3)
        write("two")
    end)
end)
app:get("/idle-stream", function(c)
    c:defer(function() seen.stream_ended = (seen.stream_ended or 0) + 1 end)
    c:stream(function(write)
        write("begun")
        moonshine.sleep(30)
    end)
end)
app:post("/body", function(c) return ("%d %s"):format(#c:body(), c:body():sub(1, 3)) end)
app:post("/echo", function(c)
    c:stream(function(write)
        while true do
            local piece = c:read(10000)
            if not piece or piece == "" then break end
            write(piece)
        end
    end)
end, { body = "stream", body_limit = "100m" })
app:post("/count", function(c)
    local n = 0
    while true do
        local piece = c:read(65536)
        if not piece or piece == "" then break end
        n = n + #piece
        moonshine.sleep(0)
    end
    return tostring(n)
end, { body = "stream", body_limit = "100m" })
"""

GET = build("GET", "/")
SLOW = build("GET", "/slow")


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


def seen(node, what):
    return int(node.get(f"/seen/{what}").text)


def reset(client):
    """Closes with a reset, as a crashed client's kernel would."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                           struct.pack("ii", 1, 0))
    client.close()


def workers(node):
    return [pid for pid, parent, _, _ in processes() if parent == node.pid]


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# Addresses

@pytest.mark.parametrize("listen, ip", [
    ("[::1]:{port}", "::1"), ("unix:{dir}/http.sock", ""),
    ("127.0.0.1:{port}", "127.0.0.1"),
])
def test_every_kind_of_address(start, tmp_path, listen, ip):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    node = start(APP, listen=listen.format(port=port, dir=tmp_path))
    assert node.get("/").text == "hello"
    assert node.get("/ip").text == ip
    with node.connect() as client:
        client.send(GET * 40 + SLOW + GET)
        texts = [client.read_response().text for _ in range(42)]
        assert texts == ["hello"] * 40 + ["slow", "hello"]
        assert len(client.get("/big").body) == 4 << 20
        client.send(SLOW)
        client.half_close()
        assert client.read_response().text == "slow"
        assert client.closed()


# Pipelines

def test_a_long_pipeline_leaves_others_their_turn(node):
    """The second client is answered before the first one's 3,000 are."""
    with node.connect() as greedy, node.connect() as modest:
        greedy.send(GET * 3000)
        modest.send(GET)
        assert modest.read_response().text == "hello"
        for _ in range(3000):
            assert greedy.read_response().text == "hello"


def test_pipelined_answers_share_packets(node):
    with node.connect() as client:
        client.send(GET * 16)
        client.fill()
        assert client.pending.count(b"HTTP/1.1 200") > 1
        for _ in range(16):
            client.read_response()


def test_input_during_a_request_costs_nothing(node):
    """Unread input must not make the loop spin while a handler waits."""
    worker = workers(node)[0]
    with node.connect() as client:
        waiting = seen(node, "waiting")
        client.send(build("GET", "/wait") + GET * 10)
        eventually(lambda: seen(node, "waiting") > waiting)
        client.send(GET * 100)
        before = cpu_ticks(worker)
        until = time.monotonic() + 0.5
        node.get("/slow"), node.get("/slow")
        eventually(lambda: time.monotonic() > until)
        assert cpu_ticks(worker) - before < 20
        reset(client)


def test_half_closed_client_that_does_not_read_costs_nothing(node):
    worker = workers(node)[0]
    with node.connect() as client:
        client.send(build("GET", "/big", [("Connection", "close")]))
        client.half_close()
        node.get("/slow")
        before = cpu_ticks(worker)
        node.get("/slow"), node.get("/slow")
        assert cpu_ticks(worker) - before < 15
        assert len(client.read_response().body) == 4 << 20


# Clients that leave

@pytest.mark.parametrize("leave", [Client.close, reset])
def test_leaving_cancels_a_get(node, leave):
    ended, waiting = seen(node, "ended"), seen(node, "waiting")
    client = node.connect()
    client.send(build("GET", "/wait"))
    eventually(lambda: seen(node, "waiting") > waiting)
    leave(client)
    eventually(lambda: seen(node, "ended") > ended, "the handler is cancelled")


def test_leaving_does_not_cancel_a_post(node):
    posted = seen(node, "posted")
    client = node.connect()
    client.send(build("POST", "/wait", body=b"x"))
    client.close()
    eventually(lambda: seen(node, "posted") > posted, "the handler ran")


def test_leaving_ends_an_idle_stream(node):
    """Nothing is written, so only asking tells that the client is gone."""
    ended = seen(node, "stream_ended")
    client = node.connect()
    client.send(build("GET", "/idle-stream"))
    assert client.read_head().status == 200
    assert next(client.read_chunks()) == b"begun"
    client.close()
    eventually(lambda: seen(node, "stream_ended") > ended, "the stream ended")


def test_half_closed_client_gets_its_stream(node):
    with node.connect() as client:
        client.send(build("GET", "/ticks"))
        client.half_close()
        response = client.read_response()
        assert response.text == "one,two"
        assert client.closed()


def test_half_close_behind_a_pipeline(node):
    with node.connect() as client:
        client.send(GET * 20 + SLOW + GET * 20)
        client.half_close()
        texts = [client.read_response().text for _ in range(41)]
        assert texts.count("hello") == 40 and texts[20] == "slow"
        assert client.closed()


def test_resets_at_any_moment(node):
    requests = [GET * 50, GET * 5 + SLOW + GET, build("GET", "/big") * 2,
                build("GET", "/flood"), build("GET", "/ticks") + GET,
                build("POST", "/body", body=b"y" * 70000)[:-100],
                build("POST", "/echo", body=b"z" * 200000)[:-1000], GET[:20]]
    for i in range(80):
        client = node.connect()
        client.send(requests[i % len(requests)])
        client.sock.settimeout(0.02)
        if i % 3 == 0:
            with contextlib.suppress(OSError):
                client.sock.recv(1000)
        (reset if i % 2 else Client.close)(client)
    assert node.get("/").text == "hello"
    assert len(workers(node)) == 1
    assert "died" not in node.log()


# Bodies and back-pressure

def test_a_slow_reader_holds_its_handler_up(node):
    """The handler is suspended, not its output collected in memory."""
    with Client(node.address) as client:
        client.send(build("GET", "/flood"))
        client.read_head()
        last = -1
        deadline = time.monotonic() + 20
        while seen(node, "flood") != last and time.monotonic() < deadline:
            last = seen(node, "flood")
            node.get("/slow")
        assert 0 < last < 2000
        got = sum(len(piece) for piece in client.read_chunks())
        assert got == 4096 * 32768


def test_an_unread_body_is_not_collected(node):
    """The kernel's buffers fill up, then the sender waits."""
    size = 60 << 20
    with node.connect() as client:
        sender = threading.Thread(target=client.send, args=(
            build("POST", "/count", [("Content-Length", str(size))])
            + b"b" * size,))
        sender.start()
        assert client.read_response().text == str(size)
        sender.join()


@pytest.mark.parametrize("chunked", [False, True])
def test_echo_both_ways_at_once(node, chunked):
    data = os.urandom(3 << 20)
    headers = [("Content-Length", str(len(data)))]
    body = data
    if chunked:
        headers = [("Transfer-Encoding", "chunked")]
        body = chunks(*(data[i:i + 50000] for i in range(0, len(data), 50000)))
    with node.connect() as client:
        sender = threading.Thread(target=client.send, args=(
            build("POST", "/echo", headers) + body + GET,))
        sender.start()
        assert client.read_response().body == data
        assert client.read_response().text == "hello"
        sender.join()


@pytest.mark.parametrize("size", [0, 1, 3900, 4096, 65536, 65537, 1 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_body_sizes_and_what_follows(node, size, chunked):
    data = (b"abc" * (size // 3 + 1))[:size]
    if chunked:
        step = 7000
        pieces = [data[i:i + step] for i in range(0, size, step)]
        message = build("POST", "/body", [("Transfer-Encoding", "chunked")])
        message += chunks(*pieces)
    else:
        message = build("POST", "/body", body=data)
    for step in (len(message), 1460, len(message) - 1):
        with node.connect() as client:
            whole = message + GET
            for i in range(0, len(whole), step):
                client.send(whole[i:i + step])
            text = client.read_response().text
            assert text == f"{size} {data[:3].decode()}"
            assert client.read_response().text == "hello"


def test_refusal_can_be_read_by_a_client_that_sends_on(node):
    """Closing with unread input would reset the answer away."""
    for head in (build("POST", "/body", [("Content-Length", "20000000")]),
                 build("GET", "/" + "a" * 9000),
                 build("GET", "/", [("X", "b" * 40000)]),
                 b"what is this\r\n\r\n",
                 build("POST", "/none", [("Content-Length", "20000000")])):
        with node.connect() as client:
            client.send(head + b"x" * 20000000)
            response = client.read_response()
            assert response.status in (413, 414, 431, 400, 404)
            assert response.header("Connection") == "close"
            assert client.closed()


def test_a_small_refused_body_costs_no_connection(node):
    with node.connect() as client:
        client.send(build("POST", "/none", [("Content-Length", "5")]))
        assert client.read_response().status == 404
        client.send(b"12345" + GET)
        assert client.read_response().text == "hello"


def test_bodies_in_memory_are_bounded(start):
    node = start(APP, settings={"body_memory": "700k", "body_buffer": "200k",
                                "body_timeout": "20s"})
    message = build("POST", "/body", body=b"m" * 190000)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(node.connect()) for _ in range(6)]
        for client in clients:
            client.send(message[:-1])
        ready, _, _ = select.select([c.sock for c in clients], [], [], 20)
        assert ready, "one too many is refused before its body is complete"
        refused = next(c for c in clients if c.sock in ready)
        assert refused.read_response().status == 503
    eventually(lambda: node.request("POST", "/body", body=b"m" * 190000)
               .status == 200, "memory is given back")


# Limits of the process

def test_no_room_for_a_body(start):
    """A full disk, here a limit on the size of files, costs that request."""
    node = start('app:post("/", function(c) return tostring(#c:body()) end)')
    worker, = node.children()
    before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    with node.connect() as other:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (200000, before[1]))
        assert node.request("POST", "/", body="x" * 150000).text == "150000"
        refused = node.request("POST", "/", body="x" * 300000)
        assert refused.status == 503
        assert "no room for the request body" in refused.text
        assert node.request("POST", "/", body="x" * 60000).text == "60000"
        resource.prlimit(worker, resource.RLIMIT_FSIZE, before)
        assert other.request("POST", "/", body="x" * 300000).text == "300000"
    node.wait_log("cannot spool a request body in .*: File too large")
    assert node.children() == [worker]


def test_no_descriptors_left(start):
    """Idle connections make room; nobody is refused, nothing spins."""
    node = start(APP)
    worker = workers(node)[0]
    used = len(os.listdir(f"/proc/{worker}/fd"))
    soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 8, hard))
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(node.connect())
            assert client.get("/").text == "hello"
        before = cpu_ticks(worker)
        until = time.monotonic() + 0.5
        eventually(lambda: time.monotonic() > until)
        assert cpu_ticks(worker) - before < 20
    assert len(re.findall("cannot accept", node.log())) < 10
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (soft, hard))
    assert node.get("/").text == "hello"


def test_connections_spread_over_workers(start):
    node = start(APP, workers=2)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(node.address))
                 for _ in range(64)]

        def held():
            counts = []
            for pid in workers(node):
                links = 0
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        target = os.readlink(f"/proc/{pid}/fd/{fd}")
                        links += target.startswith("socket:")
                counts.append(links)
            return counts

        eventually(lambda: sum(held()) >= len(socks), "all are accepted")
        low, high = min(held()), max(held())
        assert high - low <= 16


# Deadlines

def test_a_stalled_reader_is_dropped_and_others_live(start):
    node = start(APP, settings={"write_timeout": "300ms"})
    with Client(node.address) as stalled:
        stalled.send(build("GET", "/flood"))
        eventually(lambda: seen(node, "flood_over") == 1, "it is ended")
        assert len(stalled.read_rest()) < 4096 * 32768
