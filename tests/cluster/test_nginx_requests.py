"""What becomes of requests on their way through a real nginx to real nodes."""

import os
import re
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from support.client import Client, build, chunks
from support.nginx import MODULES, Nginx, available, has_stream
from support.node import Node, eventually
from support.servers import free_ports

pytestmark = pytest.mark.skipif(not available(), reason="nginx is missing")

APP = '''
app:get("/who", function(c)
    c:set_cookie("a", "b")
    return { node = moonshine.node(), ip = c:ip(), scheme = c:scheme(), host = c:host(),
             id = c:request_id(), connection = c:header("Connection") }
end)
app:get("/ip", function(c) return c:ip() end)
app:any("/run", function(c)
    c:log("info", "ran " .. c:method())
    moonshine.sleep(1)
    return moonshine.node()
end, { timeout = "20s" })
app:post("/echo", function(c) return { bytes = #c:body() } end)
app:get("/events", function(c)
    c:stream(function(write)
        for i = 1, 3 do
            write { data = "event " .. i }
            while not moonshine.shared("go"):get(tostring(i)) do moonshine.sleep(0.01) end
        end
    end, "events")
end)
app:get("/go/:i", function(c) moonshine.shared("go"):set(c:param("i"), true) return "ok" end)
app:get("/socket", function() return "page" end)
'''
SETTINGS = {"trusted_proxies": "127.0.0.1,unix", "shared.go": "64k",
            "body_limit": "2000"}
SPOOFED = {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https",
           "X-Forwarded-Host": "evil.example", "X-Real-IP": "1.2.3.4",
           "Forwarded": 'for=1.2.3.4;proto=https;host="evil.example"',
           "X-Request-Id": "spoofed-request-id"}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    sockets = tmp_path_factory.mktemp("sockets")
    running = [Node(APP, name="a", settings=SETTINGS),
               Node(APP, name="b", settings=SETTINGS,
                    listen=f"unix:{sockets}/b.sock")]
    yield running
    for node in running:
        node.stop()


@pytest.fixture(scope="module")
def front(nodes):
    with Nginx([node.listen for node in nodes], "--set",
               "body_limit=2000") as nginx:
        yield nginx


def on_both(front, **headers):
    """The answers of the node on TCP and of the one on a unix socket."""
    with Client(front.address) as client:
        answers = [client.get("/who", headers) for _ in range(4)]
    seen = [answer.json() for answer in answers]
    assert {one["node"] for one in seen} == {"a", "b"}
    return answers, seen


def test_address_scheme_and_host_arrive(front):
    answers, seen = on_both(front, Host="shop.example:8080")
    for answer, one in zip(answers, seen):
        assert one["ip"] == "127.0.0.1" and one["scheme"] == "http"
        assert one["host"] == "shop.example:8080"
        assert one["id"] == answer.header("X-Request-Id")
        assert re.fullmatch("[0-9a-f]{32}", one["id"])
        front.wait_access(f"request={one['id']}")


def test_another_address_arrives_too(front):
    with Client(front.address, source="127.9.8.7") as client:
        assert client.get("/ip").text == "127.9.8.7"


@pytest.mark.parametrize("family", ["x-forwarded", "rfc7239"])
def test_spoofed_headers_are_ignored(nodes, start, family, tmp_path):
    own = [start(APP, name=name, settings={**SETTINGS, "forwarded": family},
                 listen=listen)
           for name, listen in (("a", None),
                                ("b", f"unix:{tmp_path}/b.sock"))]
    with Nginx([node.listen for node in own], "--set",
               f"forwarded={family}") as nginx:
        with Client(nginx.address, source="127.9.8.7") as client:
            for _ in range(4):
                seen = client.get("/who", SPOOFED).json()
                assert seen["ip"] == "127.9.8.7"
                assert seen["scheme"] == "http"
                assert seen["host"] == "test.local"
                assert seen["id"] != "spoofed-request-id"
        # A quote in Host gets nobody in.
        for host in ('a", for=6.6.6.6;host="b', 'a";for=6.6.6.6;x="',
                     "a\\", "a,b", "a;for=6.6.6.6"):
            with Client(nginx.address, source="127.9.8.7") as client:
                answer = client.get("/ip", {"Host": host})
                assert answer.status == 400 or answer.text == "127.9.8.7", \
                    (host, answer.text)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("family", ["x-forwarded", "rfc7239"])
def test_ipv6_clients_arrive(start, family):
    node = start(APP, settings={**SETTINGS, "forwarded": family})
    port, = free_ports(1)
    with Nginx([node.listen], "--listen", f"[::1]:{port}", "--set",
               f"forwarded={family}"):
        with Client(("::1", port)) as client:
            assert client.get("/ip").text == "::1"


def test_a_client_on_a_unix_socket_has_no_address(start, tmp_path):
    node = start(APP, settings=SETTINGS)
    with Nginx([node.listen], listen=f"unix:{tmp_path}/front.sock") as nginx:
        with Client(nginx.address) as client:
            assert client.get("/ip").text == ""
            # "unix" is trusted here, and so is whoever speaks to nginx so.
            assert client.get("/ip", SPOOFED).text == "1.2.3.4"


def test_tls_makes_cookies_secure(start, tmp_path):
    node = start(APP, settings=SETTINGS)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         "/CN=test.local", "-keyout", tmp_path / "key.pem",
         "-out", tmp_path / "cert.pem"], check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with Nginx([node.listen], "--tls",
               f"{tmp_path}/cert.pem,{tmp_path}/key.pem") as nginx:
        context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        context.check_hostname = False
        client = Client(nginx.address)
        client.sock = context.wrap_socket(client.sock)
        with client:
            answer = client.get("/who")
        assert answer.json()["scheme"] == "https"
        assert "; Secure" in answer.header("Set-Cookie")


# ---- once, or again

def kill_the_runner(nodes, text):
    """Ends the worker that runs the request, as a crash would."""
    def runner():
        for node in nodes:
            if text in node.log():
                return node
        return None

    node = eventually(runner, f"{text} in a log")
    worker, = node.children()
    os.kill(worker, signal.SIGKILL)
    return node


def runs(nodes, text):
    return sum(node.log().count(text) for node in nodes)


@pytest.mark.parametrize("method, times, status", [
    ("POST", 1, 502), ("GET", 2, 200)])
def test_a_node_dies_while_it_runs_a_request(start, method, times, status):
    nodes = [start(APP, name=name, settings=SETTINGS) for name in "ab"]
    answers = []

    def ask():
        with Client(nginx.address) as client:
            answers.append(client.request(method, "/run", body="x" if method ==
                                          "POST" else None))

    with Nginx([node.listen for node in nodes]) as nginx:
        asking = threading.Thread(target=ask)
        asking.start()
        dead = kill_the_runner(nodes, f"ran {method}")
        asking.join()
        assert answers[0].status == status
        assert runs(nodes, f"ran {method}") == times
        if status == 200:
            assert answers[0].text != dead.name


def test_a_refused_connection_costs_no_post(start):
    node = start(APP, name="a", settings=SETTINGS)
    nobody, = free_ports(1)
    with Nginx([node.listen, f"127.0.0.1:{nobody}"]) as nginx:
        with Client(nginx.address) as client:
            for _ in range(20):
                answer = client.request("POST", "/echo", body="abc")
                assert answer.status == 200
                assert answer.json() == {"bytes": 3}
        nginx.wait_access(rf"node=127\.0\.0\.1:{nobody}, ")


def test_an_error_of_the_application_is_an_answer(start):
    nodes = [start('app:any("/", function(c) c:log("info", "ran") error("x") '
                   'end)', name=name) for name in "ab"]
    with Nginx([node.listen for node in nodes]) as nginx:
        with Client(nginx.address) as client:
            for _ in range(4):
                assert client.get("/").status == 500
                assert client.request("POST", "/", body="x").status == 500
    assert runs(nodes, ": ran") == 8


# ---- bodies and streams

@pytest.mark.parametrize("size, status", [(0, 200), (2000, 200), (2001, 413),
                                          (5000, 413)])
def test_nginx_and_node_agree_on_the_body_limit(front, nodes, size, status):
    body = "x" * size
    with Client(front.address) as client:
        answer = client.request("POST", "/echo", body=body)
        assert answer.status == status
    for node in nodes:
        assert node.request("POST", "/echo", body=body).status == status
    with Client(front.address) as client:
        client.send(build("POST", "/echo", {"Transfer-Encoding": "chunked"}) +
                    chunks(*[b"x" * 500] * (size // 500),
                           *([b"x"] if size % 500 else [])))
        assert client.read_response().status == status


def test_nginx_and_node_agree_on_long_heads(front, nodes):
    def statuses(target, headers=None):
        with Client(front.address) as client:
            through = client.get(target, headers).status
        return through, nodes[0].get(target, headers).status

    assert statuses("/ip?" + "x" * 7000) == (200, 200)
    assert statuses("/ip?" + "x" * 9000) == (414, 414)
    assert statuses("/ip", {"X-A": "x" * 7000, "X-B": "x" * 7000}) == \
        (200, 200)
    through, direct = statuses("/ip", {f"X-{i}": "x" * 7000 for i in range(6)})
    assert through in (400, 431) and direct == 431


def test_events_arrive_when_they_are_sent(start):
    node = start(APP, settings=SETTINGS)
    with Nginx([node.listen]) as nginx:
        client = Client(nginx.address)
        with client:
            client.send(build("GET", "/events"))
            head = client.read_head()
            assert head.header("Content-Type").startswith("text/event-stream")
            pieces = client.read_chunks()
            for i in (1, 2, 3):
                # The next is only sent once this one has come.
                assert f"event {i}".encode() in next(pieces)
                assert node.get(f"/go/{i}").status == 200
            assert not list(pieces)


def test_only_websocket_upgrades_are_passed_on(front):
    def status(kind):
        with Client(front.address) as client:
            return client.get("/socket", {
                "Connection": "Upgrade", "Upgrade": kind,
                "Sec-WebSocket-Version": "13"}).status

    # A node says that it has none; what nginx did not pass is a plain GET.
    assert status("websocket") == 501
    assert status("WebSocket") == 501
    assert status("h2c") == 200
    _, seen = on_both(front, Connection="keep-alive")
    assert all(one.get("connection") is None for one in seen)


def test_the_node_s_own_endpoints_are_not_for_everybody(front, nodes):
    for path in ("/-/live", "/-/ready", "/-/metrics", "/-//ready",
                 "/x/../-/ready", "/%2d/ready"):
        with Client(front.address) as client:
            assert client.get(path).status == 404, path
    assert nodes[0].get("/-/ready").status == 200


# ---- connections instead of requests

STREAM = '''
load_module {module};
pid nginx.pid;
error_log error.log;
events {{}}
stream {{
    server {{
        listen 127.0.0.1:@PORT@;
        proxy_pass {node};
        proxy_protocol on;
    }}
}}
'''


@pytest.mark.skipif(not has_stream(), reason="nginx has no stream module")
def test_nginx_as_a_balancer_of_connections(start):
    address = f"127.0.0.1:{free_ports(1)[0]}"
    node = start(APP, "--listen", address, settings={
        **SETTINGS, "proxy_protocol": address})
    text = STREAM.format(module=MODULES / "ngx_stream_module.so", node=address)
    with Nginx([], text=text) as nginx:
        with Client(nginx.address, source="127.9.8.7") as client:
            for _ in range(3):
                assert client.get("/ip", SPOOFED).text == "127.9.8.7"
    node.wait_log(r"ip=127\.9\.8\.7 ")
