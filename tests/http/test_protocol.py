"""HTTP/1.1 on the wire (RFC 9112): framing, persistence, refusals."""

import re

import pytest

from support.client import Client, Closed, build, chunks

APP = '''
app:any("/echo", function(c) return c:body() or "" end)
app:get("/hello", function(c) return "hello" end)
app:get("/n/:n", function(c) return c:param("n") end)
app:get("/empty", function(c) return nil end)
app:get("/status/:code<int>", function(c) return "", c:param("code") end)
app:get("/big", function(c) return ("x"):rep(3000000) end)
app:get("/header", function(c) return c:header("X-Test") or "none" end)
app:get("/stream", function(c)
    c:stream(function(write) for i = 1, 5 do write("part" .. i) end end)
end)
'''


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


def answered(node, data):
    """Sends bytes; the first response, and whether the server closed."""
    with Client(node.address) as client:
        client.send(data)
        response = client.read_response()
        client.half_close()
        return response, client.read_rest()


def test_hello(node):
    response = node.get("/hello")
    assert (response.status, response.body) == (200, b"hello")
    assert response.reason == "OK"
    assert response.header("Content-Type") == "text/plain; charset=utf-8"
    assert response.header("Content-Length") == "5"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT",
                        response.header("Date"))
    assert response.header("X-Request-Id")


def test_keep_alive_serves_one_after_another(node):
    client = node.connect()
    for n in range(20):
        assert client.get(f"/n/{n}").text == str(n)
    client.close()


def test_http_10_closes_unless_asked(node):
    with Client(node.address) as client:
        client.send(b"GET /hello HTTP/1.0\r\n\r\n")
        assert client.read_response().body == b"hello"
        assert client.closed()
    with Client(node.address) as client:
        for _ in range(2):
            client.send(b"GET /hello HTTP/1.0\r\n"
                        b"Connection: keep-alive\r\n\r\n")
            response = client.read_response()
            assert response.body == b"hello"
            assert response.header("Connection").lower() == "keep-alive"


def test_http_10_stream_is_not_chunked(node):
    with Client(node.address) as client:
        client.send(b"GET /stream HTTP/1.0\r\n\r\n")
        response = client.read_response()
        assert response.header("Transfer-Encoding") is None
        assert response.body == b"part1part2part3part4part5"


def test_connection_close_is_honoured(node):
    with Client(node.address) as client:
        response = client.get("/hello", {"Connection": "close"})
        assert response.header("Connection").lower() == "close"
        assert client.closed()


def test_pipelined_answers_keep_their_order(node):
    with Client(node.address) as client:
        client.send(b"".join(build("GET", f"/n/{n}") for n in range(100)))
        for n in range(100):
            assert client.read_response().text == str(n)


def test_pipeline_behind_a_bodied_request(node):
    with Client(node.address) as client:
        client.send(build("POST", "/echo", body="a" * 100000) +
                    build("GET", "/hello") +
                    build("POST", "/echo", {"Transfer-Encoding": "chunked"},
                          chunks(b"one", b"two")) +
                    build("GET", "/n/4"))
        assert client.read_response().body == b"a" * 100000
        assert client.read_response().body == b"hello"
        assert client.read_response().body == b"onetwo"
        assert client.read_response().body == b"4"


def test_pipeline_ends_at_a_bad_request(node):
    with Client(node.address) as client:
        client.send(build("GET", "/n/1") + b"NO\x01NSENSE\r\n\r\n" +
                    build("GET", "/n/2"))
        assert client.read_response().text == "1"
        assert client.read_response().status == 400
        assert client.closed()


def test_byte_by_byte(node):
    with Client(node.address) as client:
        for byte in build("POST", "/echo", {"Transfer-Encoding": "chunked"},
                          chunks(b"hello ", b"world", trailers="X-T: 1\r\n")):
            client.send(bytes([byte]))
        assert client.read_response().body == b"hello world"
        assert client.get("/hello").body == b"hello"


def test_head_has_the_headers_of_get_and_no_body(node):
    with Client(node.address) as client:
        for target in ("/hello", "/big", "/n/7"):
            head = client.request("HEAD", target)
            got = client.get(target)
            assert head.status == got.status == 200
            for name in ("Content-Type", "Content-Length"):
                assert head.header(name) == got.header(name), (target, name)


def test_large_response(node):
    response = node.get("/big")
    assert response.body == b"x" * 3000000


def test_204_has_neither_body_nor_length(node):
    with Client(node.address) as client:
        response = client.get("/empty")
        assert response.status == 204
        assert response.header("Content-Length") is None
        assert response.header("Transfer-Encoding") is None
        assert client.get("/hello").body == b"hello"


def test_304_from_a_handler_has_no_body(node):
    with Client(node.address) as client:
        assert client.get("/status/304").status == 304
        assert client.get("/hello").body == b"hello"


def test_expect_100_continue(node):
    with Client(node.address) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                    b"Expect: 100-continue\r\n\r\n")
        assert client.read_head().status == 100
        client.send(b"12345")
        assert client.read_response().body == b"12345"


def test_expect_is_answered_without_100_when_refused(node):
    with Client(node.address) as client:
        client.send(b"POST /nowhere HTTP/1.1\r\nHost: x\r\n"
                    b"Content-Length: 500000000\r\n"
                    b"Expect: 100-continue\r\n\r\n")
        response = client.read_response()
        assert response.status in (404, 413)
        assert response.interim == []
        assert client.closed()


def test_unknown_expectation(node):
    response, rest = answered(
        node, b"GET /hello HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n")
    assert response.status in (200, 417)


def test_absolute_target_gives_the_host(node):
    response, _ = answered(
        node, b"GET http://other.local/hello HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (response.status, response.body) == (200, b"hello")


def test_upgrade_is_not_here_yet(node):
    response = node.get("/hello", {"Connection": "Upgrade",
                                   "Upgrade": "websocket"})
    assert response.status == 501


def test_leading_empty_lines_are_skipped(node):
    response, _ = answered(node, b"\r\n\r\n" + build("GET", "/hello"))
    assert response.body == b"hello"


def test_white_space_around_a_value(node):
    response, _ = answered(
        node, b"GET /header HTTP/1.1\r\nHost: x\r\nX-Test:  \t v w \t\r\n\r\n")
    assert response.body == b"v w"


def test_every_kind_of_byte_in_a_value(node):
    value = bytes(range(0x80, 0x100))
    response, _ = answered(node, b"GET /header HTTP/1.1\r\nHost: x\r\n"
                                 b"X-Test: " + value + b"\r\n\r\n")
    assert response.body == value


REFUSED = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "bad host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "folded header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "space in name": (b"GET / HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n", 400),
    "empty name": (b"GET / HTTP/1.1\r\nHost: x\r\n: c\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost: x\r\nabc\r\n\r\n", 400),
    "leading space": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "NUL in value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "bare LF in head": (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400),
    "bare CR in value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400),
    "no version": (b"GET /\r\nHost: x\r\n\r\n", 400),
    "version 0.9": (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", (400, 505)),
    "version 2.0": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "version 1.2 digits": (b"GET / HTTP/1.10\r\nHost: x\r\n\r\n", (400, 505)),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    "lower case http": (b"GET / http/1.1\r\nHost: x\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "tab": (b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "control in target": (b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "relative target": (b"GET hello HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", (400, 405, 501)),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40, 400),
    "two lengths": (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
                    b"Content-Length: 2\r\n\r\nab", 400),
    "length list": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                    b"Content-Length: 1, 2\r\n\r\nab", 400),
    "signed length": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                      b"Content-Length: +1\r\n\r\na", 400),
    "negative length": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                        b"Content-Length: -1\r\n\r\na", 400),
    "hex length": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                   b"Content-Length: 0x1\r\n\r\na", 400),
    "huge length": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                    b"Content-Length: 99999999999999999999999\r\n\r\n",
                    (400, 413)),
    "empty length": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                     b"Content-Length:\r\n\r\n", 400),
    "length and chunked": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                           b"Content-Length: 5\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked and length": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                           b"Transfer-Encoding: chunked\r\n"
                           b"Content-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "chunked twice": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                      b"Transfer-Encoding: chunked\r\n"
                      b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                      (400, 501)),
    "gzip, chunked": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                      b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                      (400, 501)),
    "chunked, identity": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                          b"Transfer-Encoding: chunked, identity\r\n\r\n",
                          (400, 501)),
    "xchunked": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                 b"Transfer-Encoding: xchunked\r\n\r\n", (400, 501)),
    "vertical tab coding": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                            b"Transfer-Encoding: \x0bchunked\r\n\r\n",
                            (400, 501)),
    "chunked in HTTP/1.0": (b"POST /echo HTTP/1.0\r\nHost: x\r\n"
                            b"Transfer-Encoding: chunked\r\n\r\n"
                            b"0\r\n\r\n", (400, 501)),
    "chunk size not hex": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "chunk size signed": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                          b"Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n", 400),
    "chunk size prefix": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                          b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n",
                          400),
    "chunk size overflow": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                            b"Transfer-Encoding: chunked\r\n\r\n"
                            b"fffffffffffffffff1\r\na\r\n", (400, 413)),
    "chunk too long": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                       b"Transfer-Encoding: chunked\r\n\r\n"
                       b"1\r\nabc\r\n0\r\n\r\n", 400),
    "chunk ended by LF": (b"POST /echo HTTP/1.1\r\nHost: x\r\n"
                          b"Transfer-Encoding: chunked\r\n\r\n"
                          b"1\na\n0\n\n", 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(node, name):
    data, expected = REFUSED[name]
    response, rest = answered(node, data)
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert response.status in expected, response
    assert response.header("Connection").lower() == "close"
    # What follows a refused message must never be taken for a request.
    assert rest == b""


def test_smuggled_request_is_not_served(node):
    inner = build("GET", "/n/smuggled")
    for head in ("Content-Length: 4\r\nTransfer-Encoding: chunked",
                 "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                 "Transfer-Encoding:\x0bchunked",
                 "Transfer_Encoding: chunked\r\nContent-Length : 3"):
        answer = node.raw(f"POST /echo HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n"
                          .encode() + b"0\r\n\r\n" + inner)
        assert b"smuggled" not in answer, head


def test_error_body_follows_accept(node):
    problem = node.get("/nowhere", {"Accept": "application/json"})
    assert problem.status == 404
    assert problem.header("Content-Type").startswith(
        "application/problem+json")
    assert problem.json()["status"] == 404
    page = node.get("/nowhere", {"Accept": "text/html,*/*;q=0.8"})
    assert page.header("Content-Type").startswith("text/html")


def test_request_without_reading_the_answer(node):
    """A client that goes away in mid-answer costs nobody anything."""
    for _ in range(5):
        client = node.connect()
        client.send(build("GET", "/big"))
        client.close()
    assert node.get("/hello").body == b"hello"


def test_early_close_in_mid_body(node):
    client = node.connect()
    client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
    client.half_close()
    rest = client.read_rest()
    assert rest == b"" or rest.startswith(b"HTTP/1.1 400")
    assert node.get("/hello").body == b"hello"


def test_half_closed_client_still_gets_its_answer(node):
    assert node.raw(build("GET", "/hello")).endswith(b"hello")


def test_extra_bytes_after_close_are_ignored(node):
    with Client(node.address) as client:
        client.send(build("GET", "/n/1", {"Connection": "close"}) +
                    build("GET", "/n/2"))
        assert client.read_response().text == "1"
        with pytest.raises(Closed):
            client.read_response()
