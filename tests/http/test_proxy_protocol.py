"""The PROXY protocol on a listener of its own."""

import signal
import socket
import struct

import pytest

from support.client import Client, Closed, build
from support.node import command, free_port

APP = '''
local limit = moonshine.limit
app:get("/who", function(c) return { ip = c:ip(), scheme = c:scheme() } end)
app:get("/limited", limit.token_bucket { rate = 1, per = "1h", burst = 1 },
    function() return "passed" end)
app:post("/echo", function(c) return c:body() end)
'''
V1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command=1, family=0x11, addresses=None, extra=b""):
    if addresses is None:
        addresses = (socket.inet_aton("192.0.2.8") +
                     socket.inet_aton("127.0.0.1") +
                     struct.pack("!HH", 4711, 80))
    rest = addresses + extra
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family,
                                   len(rest)) + rest


class Listeners:
    """A node with a plain listener and one that speaks PROXY."""

    def __init__(self, start, trusted="127.0.0.1", **settings):
        self.port = free_port()
        address = f"127.0.0.1:{self.port}"
        self.node = start(APP, "--listen", address, settings={
            "trusted_proxies": trusted, "proxy_protocol": address, **settings})

    def connect(self, header=b""):
        client = Client(("127.0.0.1", self.port))
        self.node.clients.append(client)
        if header:
            client.send(header)
        return client

    def who(self, header, headers=None):
        return self.connect(header).get("/who", headers).json()["ip"]


@pytest.fixture
def both(start):
    return Listeners(start)


def refused(client):
    try:
        client.send(build("GET", "/who"))
        return client.read_rest() == b""
    except (BrokenPipeError, ConnectionResetError, Closed):
        return True


def test_the_header_names_the_client(both):
    assert both.who(V1) == "192.0.2.7"
    assert both.who(v2()) == "192.0.2.8"
    assert both.who(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n") == "2001:db8::1"
    six = socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    assert both.who(v2(family=0x21, addresses=six + six + b"\0\1\0\2",
                       extra=b"\x04\0\x03abc")) == "2001:db8::2"


def test_it_counts_for_all_requests_of_the_connection(both):
    client = both.connect(V1)
    client.send(build("GET", "/who") + build("POST", "/echo", body="a" * 9000) +
                build("GET", "/who"))
    assert client.read_response().json()["ip"] == "192.0.2.7"
    assert client.read_response().text == "a" * 9000
    assert client.read_response().json()["ip"] == "192.0.2.7"
    both.node.wait_log(r"ip=192\.0\.2\.7 .*target=/who")


def test_limits_count_that_client(both):
    def status(address):
        line = f"PROXY TCP4 {address} 127.0.0.1 1 2\r\n".encode()
        return both.connect(line).get("/limited").status

    assert [status("192.0.2.1"), status("192.0.2.1")] == [200, 429]
    assert status("192.0.2.2") == 200


@pytest.mark.parametrize("header, ip", [(V1, "192.0.2.7"),
                                        (v2(extra=b"\x04\0\x01x"),
                                         "192.0.2.8")], ids=["v1", "v2"])
def test_it_may_arrive_in_any_pieces(both, header, ip):
    stream = header + build("GET", "/who")
    for cut in range(1, len(stream)):
        client = both.connect(stream[:cut])
        client.send(stream[cut:])
        assert client.read_response().json()["ip"] == ip
        client.close()
    client = both.connect()
    for byte in stream:
        client.send(bytes([byte]))
    assert client.read_response().json()["ip"] == ip


@pytest.mark.parametrize("header", [
    b"PROXY UNKNOWN\r\n", v2(command=0), v2(command=0, addresses=b""),
    v2(family=0, addresses=b""), v2(family=0x31, addresses=b"/x" * 108)],
    ids=["unknown", "local", "bare", "unspec", "unix"])
def test_a_client_that_is_not_told_is_never_believed(both, header):
    # The balancer is trusted, but whoever is behind it wrote the field.
    assert both.who(header, {"X-Forwarded-For": "1.2.3.4"}) == "127.0.0.1"


def test_the_fields_count_if_the_client_is_a_trusted_proxy(start):
    both = Listeners(start, trusted="127.0.0.1,198.51.100.0/24")
    forwarded = {"X-Forwarded-For": "203.0.113.5"}
    assert both.who(b"PROXY TCP4 198.51.100.1 127.0.0.1 1 2\r\n",
                    forwarded) == "203.0.113.5"
    assert both.who(V1, forwarded) == "192.0.2.7"


@pytest.mark.parametrize("header", [
    b"", b"PROXY TCP4 1.2.3.4 127.0.0.1 1\r\n", b"PROXY " + b"x" * 200,
    v2(extra=b"\x03\0\x04\0\0\0\0"), v2(family=0x44), SIGNATURE + b"\x31" * 90],
    ids=["none", "short", "endless", "checksum", "family", "version"])
def test_anything_else_is_closed(both, header):
    assert refused(both.connect(header))
    both.node.wait_log(r"closed a connection from 127\.0\.0\.1 to a listener")
    assert both.who(V1) == "192.0.2.7"


def test_who_is_not_trusted_is_closed(start):
    both = Listeners(start, trusted="10.0.0.1")
    for _ in range(20):
        assert refused(both.connect())
    both.node.wait_log(r"it is not one of trusted_proxies")
    assert both.node.log().count("closed a connection") < 20


def test_the_other_listener_does_not_speak_it(both):
    assert both.node.get("/who").json()["ip"] == "127.0.0.1"
    client = both.node.connect()
    client.send(V1 + build("GET", "/who"))
    assert client.read_response().status == 400


def test_the_header_has_the_deadline_of_a_head(start):
    both = Listeners(start, header_timeout="200ms")
    client = both.connect(V1[:10])
    assert client.closed()
    # Drop by drop is not better.
    client = both.connect()
    client.sock.settimeout(0.05)
    for byte in b"PROXY UNKNOWN " + b"x" * 90:
        try:
            client.send(bytes([byte]))
            if not client.fill():
                break
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            break
    else:
        raise AssertionError("it waits for ever")
    assert both.who(V1) == "192.0.2.7"


def test_a_check_that_only_connects_is_no_news(both):
    both.connect().close()
    both.connect(v2(command=0)).close()
    assert both.who(V1) == "192.0.2.7"
    assert "closed a connection" not in both.node.log()


def test_on_a_unix_socket(start, tmp_path):
    path = f"{tmp_path}/proxied.sock"
    start(APP, "--listen", f"unix:{path}", settings={
        "trusted_proxies": "unix", "proxy_protocol": f"unix:{path}"})
    with Client(path) as client:
        client.send(V1)
        assert client.get("/who").json()["ip"] == "192.0.2.7"


def test_it_stays_over_a_reload(both):
    client = both.connect(V1)
    pending = both.connect(V1[:20])
    assert client.get("/who").json()["ip"] == "192.0.2.7"
    assert both.node.command("reload").returncode == 0
    assert client.get("/who").json()["ip"] == "192.0.2.7"
    pending.send(V1[20:])
    assert pending.get("/who").json()["ip"] == "192.0.2.7"
    assert both.who(v2()) == "192.0.2.8"


def test_half_a_header_does_not_hold_up_the_end(start):
    both = Listeners(start, header_timeout="5m", drain_idle="100ms",
                     drain_timeout="5m")
    with Client(("127.0.0.1", both.port)) as client:
        client.send(V1[:10])
        assert both.who(V1) == "192.0.2.7"
        both.node.signal(signal.SIGTERM)
        assert both.node.process.wait(30) == 0
        assert client.closed()


def test_the_configuration_is_checked(tmp_path):
    (tmp_path / "app.lua").write_text('return require("moonshine").app()\n')

    def complaint(config):
        (tmp_path / "config.lua").write_text(f"return {config}\n")
        result = command("check", tmp_path)
        assert result.returncode != 0
        return result.stdout + result.stderr

    assert "proxy_protocol needs trusted_proxies" in \
        complaint("{ proxy_protocol = true }")
    assert "not one of listen" in complaint(
        '{ listen = { ":8080" }, proxy_protocol = { ":8081" }, '
        'trusted_proxies = { "::1" } }')
