"""How many connections there may be, in all and of one client: who is one too
many is told so and can read it, and others are served."""

import contextlib
import os
import re
import signal
import socket
import threading

import pytest

from support.admin import Admin
from support.client import Client, Closed, build
from support.node import eventually, free_port

APP = '''
app:get("/hello", function(c) return "hello" end)
app:get("/pid", function(c) return tostring(moonshine.worker().id) end)
app:get("/ip", function(c) return c:ip() or "" end)
app:get("/wait", function(c) moonshine.sleep(20) return "late" end)
app:post("/echo", function(c) return c:body() end)
'''


def metric(node, name):
    text = Admin(node).ask("GET", "/-/metrics").text
    return float(re.search(rf"^moonshine_{name} (\S+)", text, re.MULTILINE)[1])


def count_of(node):
    return metric(node, "connections")


def refused(client, status):
    """A whole answer, then the end; no reset."""
    response = client.read_response()
    assert response.status == status, response
    assert response.header("Connection") == "close"
    assert response.header("Retry-After") == "1"
    assert response.header("Date")
    assert client.closed()
    return response


def busy(stack, node, count, **options):
    """Connections with a request that is not over."""
    clients = []
    for _ in range(count):
        client = stack.enter_context(Client(node.address, **options))
        client.send(build("GET", "/wait"))
        clients.append(client)
    return clients


# max_connections

def test_one_too_many_is_refused(start):
    node = start(APP, settings={"max_connections": "4", "drain_timeout": "0"})
    eventually(lambda: count_of(node) == 0, "those of the start are gone")
    with contextlib.ExitStack() as stack:
        held = busy(stack, node, 4)
        eventually(lambda: count_of(node) == 4, "all are accepted")
        for _ in range(40):
            with Client(node.address) as late:
                with contextlib.suppress(OSError):
                    late.send(build("GET", "/hello"))
                refused(late, 503)
        with Client(node.address) as silent:
            refused(silent, 503)
        eventually(lambda: metric(node, "connection_refusals_total") == 41)
        assert count_of(node) == 4
        held[0].close()
        eventually(lambda: count_of(node) == 3, "one has left")
        assert node.get("/hello").text == "hello"
    assert node.log().count("there are max_connections (4)") < 10


def test_a_refused_upload_can_read_why(start):
    node = start(APP, settings={"max_connections": "1", "drain_timeout": "0"})
    eventually(lambda: count_of(node) == 0, "those of the start are gone")
    with contextlib.ExitStack() as stack:
        busy(stack, node, 1)
        eventually(lambda: count_of(node) == 1, "it is accepted")
        with Client(node.address) as late:
            late.send(build("POST", "/echo", body=b"x" * 200000))
            refused(late, 503)


def test_those_who_are_idle_make_room(start):
    """Half-open ones and keep-alive ones, once they did nothing for a while."""
    node = start(APP, settings={"max_connections": "6"})
    with contextlib.ExitStack() as stack:
        for n in range(6):
            client = stack.enter_context(Client(node.address))
            if n % 2:
                assert client.get("/hello").text == "hello"

        def served():
            with Client(node.address) as late:
                late.send(build("GET", "/hello"))
                return late.read_response().status == 200

        eventually(served, "one of them made room")
        eventually(lambda: metric(node, "shed_total") >= 1)


def test_a_flood_of_refusals_stays_small(start):
    """Who is being turned away counts, too: the rest waits in the kernel."""
    node = start(APP, settings={"max_connections": "2", "drain_timeout": "0"})
    worker, = node.children()
    eventually(lambda: count_of(node) == 0, "those of the start are gone")
    with contextlib.ExitStack() as stack:
        busy(stack, node, 2)
        eventually(lambda: count_of(node) == 2, "both are accepted")
        before = len(os.listdir(f"/proc/{worker}/fd"))
        for _ in range(200):
            stack.enter_context(Client(node.address))
        eventually(lambda: metric(node, "connection_refusals_total") >= 60)
        assert len(os.listdir(f"/proc/{worker}/fd")) < before + 40


def test_a_full_worker_leaves_others_their_room(start):
    """No refusal before all workers are full."""
    node = start(APP, workers=2, settings={"max_connections": "10",
                                           "drain_timeout": "0"})
    eventually(lambda: count_of(node) == 0, "those of the start are gone")
    with contextlib.ExitStack() as stack:
        busy(stack, node, 20)
        eventually(lambda: count_of(node) == 20, "both are full")
        assert metric(node, "connection_refusals_total") == 0
        late = stack.enter_context(Client(node.address))
        refused(late, 503)


# max_connections_per_ip

LIMITED = {"max_connections_per_ip": "5", "drain_timeout": "0"}


def test_a_client_has_so_many(start):
    """Over all workers; others are served, and it is once it lets go."""
    node = start(APP, workers=2, settings=LIMITED)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(Client(node.address, source="127.0.0.9"))
                for _ in range(5)]
        for client in held:
            assert client.get("/hello").text == "hello"
        for _ in range(10):
            with Client(node.address, source="127.0.0.9") as late:
                with contextlib.suppress(OSError):
                    late.send(build("GET", "/hello"))
                refused(late, 429)
        with Client(node.address, source="127.0.0.10") as other:
            assert other.get("/hello").text == "hello"
        held.pop().close()

        def again():
            with Client(node.address, source="127.0.0.9") as late:
                late.send(build("GET", "/hello"))
                return late.read_response().status == 200

        eventually(again, "it let one go")
        eventually(
            lambda: metric(node, "client_connection_refusals_total") >= 10)
    assert "refused a connection from 127.0.0.9" in node.log()


def test_never_more_at_once_however_they_race(start):
    """Two workers accept at the same time; what they let in is the limit."""
    node = start(APP, workers=2, settings=LIMITED)
    answers = []

    def one():
        with Client(node.address, source="127.0.0.9") as client:
            with contextlib.suppress(OSError):
                client.send(build("GET", "/hello"))
            answers.append(client.read_response().status)
            done.wait(20)

    done = threading.Event()
    threads = [threading.Thread(target=one) for _ in range(40)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(answers) == 40, "all are answered")
    done.set()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 429}
    assert 1 <= answers.count(200) <= 5


def test_what_a_dead_worker_held_is_free(start):
    node = start(APP, workers=2, settings=LIMITED)
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            client = stack.enter_context(
                Client(node.address, source="127.0.0.9"))
            assert client.get("/hello").text == "hello"
        for pid in node.children():
            os.kill(pid, signal.SIGKILL)

        def served():
            with Client(node.address, source="127.0.0.9") as late:
                try:
                    late.send(build("GET", "/hello"))
                    return late.read_response().status == 200
                except (Closed, OSError):
                    return False

        eventually(served, "their connections are gone")
        Admin(node).wait_serving(2)


def test_a_reload_counts_those_there_are(start):
    node = start({"app.lua": APP, "config.lua": "return {}"},
                 settings={"drain_timeout": "0"})
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(
                Client(node.address, source="127.0.0.9"))
            assert client.get("/hello").text == "hello"
        (node.app / "config.lua").write_text(
            "return { max_connections_per_ip = 3 }")
        assert Admin(node).reload()[0]
        with Client(node.address, source="127.0.0.9") as late:
            refused(late, 429)
        (node.app / "config.lua").write_text("return {}")
        assert Admin(node).reload()[0]
        with Client(node.address, source="127.0.0.9") as late:
            assert late.get("/hello").text == "hello"


def test_proxies_and_unix_sockets_are_exempt(start):
    path = f"/tmp/moonshine-{os.getpid()}-{free_port()}.sock"
    node = start(APP, "--listen", f"unix:{path}",
                 settings={"max_connections_per_ip": "2",
                           "trusted_proxies": "127.0.0.9"})
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            proxy = stack.enter_context(
                Client(node.address, source="127.0.0.9"))
            assert proxy.get("/hello").text == "hello"
            local = stack.enter_context(Client(path))
            assert local.get("/hello").text == "hello"


def test_the_client_that_a_proxy_names_counts(start):
    port = free_port()
    address = f"127.0.0.1:{port}"
    node = start(APP, "--listen", address,
                 settings={"max_connections_per_ip": "2",
                           "trusted_proxies": "127.0.0.1",
                           "proxy_protocol": address})

    def via(stack, ip):
        client = stack.enter_context(Client(("127.0.0.1", port)))
        client.send(f"PROXY TCP4 {ip} 127.0.0.1 4711 80\r\n".encode() +
                    build("GET", "/ip"))
        return client

    with contextlib.ExitStack() as stack:
        for _ in range(2):
            assert via(stack, "192.0.2.7").read_response().text == "192.0.2.7"
        refused(via(stack, "192.0.2.7"), 429)
        assert via(stack, "192.0.2.8").read_response().text == "192.0.2.8"
        # Who does not say on whose behalf it comes is nobody's client.
        for _ in range(4):
            client = stack.enter_context(Client(("127.0.0.1", port)))
            client.send(b"PROXY UNKNOWN\r\n" + build("GET", "/hello"))
            assert client.read_response().text == "hello"


def has_ipv6():
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_ipv6_counts_by_its_64(start):
    """Behind the PROXY protocol, for a machine has one address of its own."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    node = start(APP, "--listen", address,
                 settings={"max_connections_per_ip": "2",
                           "trusted_proxies": "127.0.0.1",
                           "proxy_protocol": address})
    assert node.get("/hello").text == "hello"

    def via(stack, ip):
        client = stack.enter_context(Client(("127.0.0.1", port)))
        client.send(f"PROXY TCP6 {ip} ::1 4711 80\r\n".encode() +
                    build("GET", "/hello"))
        return client

    with contextlib.ExitStack() as stack:
        assert via(stack, "2001:db8:1:1::1").read_response().status == 200
        assert via(stack, "2001:db8:1:1::2").read_response().status == 200
        refused(via(stack, "2001:db8:1:1:ffff::3"), 429)
        assert via(stack, "2001:db8:1:2::1").read_response().status == 200
        # A mapped address is an IPv4 one.
        for ip in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
            assert via(stack, f"::ffff:{ip}").read_response().status == 200
