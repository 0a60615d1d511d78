"""Limits of size and time: each refuses one client and spares the others."""

import time

import pytest

from support.client import Client, build, chunks
from support.node import eventually

APP = '''
app:post("/echo", function(c) return c:body() end)
app:post("/small", function(c) return c:body() end, { body_limit = "10" })
app:post("/large", function(c) return tostring(#c:body()) end,
    { body_limit = "8m" })
app:get("/hello", function(c) return "hello" end)
app:get("/q", function(c) return c:query("x") or "" end)
app:get("/sleep", function(c) moonshine.sleep(20) return "late" end,
    { timeout = "300ms" })
app:get("/big", function(c) return ("x"):rep(30000000) end)
'''
SETTINGS = {"header_timeout": "500ms", "body_timeout": "500ms",
            "keepalive_timeout": "1s", "write_timeout": "1s"}


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


@pytest.fixture(scope="module")
def hasty(start_shared):
    return start_shared(APP, settings=SETTINGS)


def answer_to(node, data):
    with Client(node.address) as client:
        client.send(data)
        response = client.read_response()
        assert client.closed()
        return response


def test_request_line(node):
    assert node.get("/q?x=" + "a" * 7000).status == 200
    assert answer_to(node, build("GET", "/q?x=" + "a" * 9000)).status == 414


def test_request_line_without_an_end(node):
    assert answer_to(node, b"GET /" + b"a" * 20000).status == 414


def test_header_bytes(node):
    assert node.get("/hello", {"A": "a" * 30000}).status == 200
    response = answer_to(node, build("GET", "/hello", {"A": "a" * 33000}))
    assert response.status == 431


def test_header_count(node):
    many = [(f"X-{n}", "v") for n in range(99)]
    assert node.get("/hello", many).status == 200
    response = answer_to(
        node, build("GET", "/hello", many + [("X-Last", "v")] * 2))
    assert response.status == 431


def test_header_without_an_end(node):
    data = b"GET /hello HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 40000
    assert answer_to(node, data).status == 431


def test_endless_trailers(node):
    response = answer_to(node, build(
        "POST", "/echo", {"Transfer-Encoding": "chunked"},
        chunks(b"x", trailers="".join(f"X-{n}: {'v' * 100}\r\n"
                                      for n in range(500)))))
    assert response.status in (400, 431)


def test_announced_body_too_large(node):
    response = answer_to(
        node, b"POST /echo HTTP/1.1\r\nHost: x\r\n"
              b"Content-Length: 1048577\r\n\r\n")
    assert response.status == 413


def test_chunked_body_too_large(node):
    with Client(node.address) as client:
        client.send(build("POST", "/echo", {"Transfer-Encoding": "chunked"},
                          b"10000\r\n" + b"a" * 65536 + b"\r\n"))
        part = b"10000\r\n" + b"a" * 65536 + b"\r\n"
        try:
            for _ in range(17):
                client.send(part)
        except OSError:
            pass  # it may close while we send
        assert client.read_response().status == 413


def test_body_of_exactly_the_limit(node):
    assert node.request("POST", "/echo", body="a" * 1048576).status == 200


def test_body_limit_of_a_route(node):
    assert node.request("POST", "/small", body="a" * 10).status == 200
    assert node.request("POST", "/small", body="a" * 11).status == 413
    assert node.request("POST", "/large", body="a" * 5000000).text == "5000000"


def test_a_rest_of_body_is_drained_or_the_connection_closed(node):
    """The answer of a refused upload arrives although the client sends on."""
    with Client(node.address) as client:
        client.send(b"POST /small HTTP/1.1\r\nHost: x\r\n"
                    b"Content-Length: 300000\r\n\r\n" + b"a" * 300000)
        assert client.read_response().status == 413


def test_body_in_a_file_is_the_same(node):
    """Above body_buffer (64 KiB) the body is spooled; nobody can tell."""
    body = bytes(range(256)) * 1000
    assert node.request("POST", "/echo", body=body).body == body


def test_slow_head_is_cut_off(hasty):
    with Client(hasty.address) as client:
        client.send(b"GET /hello HTTP/1.1\r\nHost:")
        assert client.read_response().status == 408
        assert client.closed()


def test_drip_does_not_extend_the_head_deadline(hasty):
    with Client(hasty.address) as client:
        deadline = time.monotonic() + 15
        try:
            client.send(b"GET /hello HTTP/1.1\r\nHost: x\r\n")
            client.sock.settimeout(0.1)
            while time.monotonic() < deadline:
                client.send(b"X-A: b\r\n")
                try:
                    if not client.fill():
                        break
                except TimeoutError:
                    continue
        except OSError:
            pass
        assert time.monotonic() < deadline
        assert client.pending == b"" or b" 408 " in client.pending


def test_slow_body_is_cut_off(hasty):
    with Client(hasty.address) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                    b"Content-Length: 10\r\n\r\nabc")
        assert client.read_response().status == 408
        assert client.closed()


def test_idle_connection_is_closed_silently(hasty):
    with Client(hasty.address) as client:
        assert client.get("/hello").status == 200
        assert client.closed()


def test_client_that_does_not_read_is_dropped(hasty):
    client = hasty.connect()
    client.send(build("GET", "/big"))
    eventually(lambda: hasty.get("/hello").status == 200)

    def dropped():
        try:
            client.send(b"x")
        except OSError:
            return True
        return False

    eventually(dropped, "the connection of the client that does not read")


def test_handler_timeout(node):
    response = node.get("/sleep")
    assert response.status == 503
    assert node.get("/hello").status == 200


def test_keepalive_requests(start):
    node = start(APP, settings={"keepalive_requests": "3"})
    with Client(node.address) as client:
        for n in range(3):
            response = client.get("/hello")
            assert response.status == 200
        assert response.header("Connection").lower() == "close"
        assert client.closed()
