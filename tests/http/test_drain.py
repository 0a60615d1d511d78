"""A shutdown loses nothing: no refused or reset connection that had queued, no
cut answer, no 5xx."""

import collections
import os
import signal
import socket
import threading
import time

import pytest

from support.admin import Admin
from support.client import Client, Closed
from support.load import Load
from support.node import eventually

APP = """
    app:get("/", function() return "ok" end)
    app:get("/slow", function() moonshine.sleep("600ms") return "slow" end)
    app:get("/forever", function() moonshine.sleep(100) return "never" end)
    app:post("/body", function(c) return tostring(#c:body()) end)
    app:get("/stream", function(c)
        c:stream(function(write)
            while true do
                local ok, why = write("x")
                if not ok then write("end") return end
                moonshine.sleep("20ms")
            end
        end)
    end)"""

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]


def refused(node):
    try:
        Client(node.address, 5).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("number", SIGNALS)
def test_request_in_flight_finishes(start, number):
    node = start(APP, workers=2)
    client = Client(node.address)
    client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    eventually(lambda: Admin(node).requests(), "it runs")
    node.signal(number)
    answer = client.read_response()
    assert answer.status == 200 and answer.text == "slow"
    assert answer.header("Connection") == "close"
    assert client.closed()
    assert node.process.wait(20) == 0
    assert signal.Signals(number).name in node.log()


def test_no_new_connections_afterwards(start):
    node = start(APP)
    busy = Client(node.address)
    busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    eventually(lambda: Admin(node).requests(), "it runs")
    node.signal(signal.SIGTERM)
    eventually(lambda: refused(node), "connections are refused", 5)
    assert busy.read_response().status == 200
    assert node.process.wait(10) == 0


def test_idle_connection_gets_one_more_answer(start):
    """nginx may send on a connection that we are about to close."""
    node = start(APP, settings={"drain_idle": "10s"})
    idle = [Client(node.address) for _ in range(5)]
    for client in idle:
        assert client.get("/").header("Connection") is None
    node.signal(signal.SIGTERM)
    node.wait_log("finishing what is in flight")
    eventually(lambda: refused(node), "it drains", 5)
    for client in idle:
        answer = client.get("/")
        assert answer.status == 200
        assert answer.header("Connection") == "close"
        assert client.closed()
    assert node.process.wait(10) == 0


def test_idle_connections_end_at_drain_idle(start):
    node = start(APP, settings={"drain_idle": "200ms"})
    idle = Client(node.address)
    assert idle.get("/").status == 200
    node.signal(signal.SIGTERM)
    assert idle.closed()
    assert node.process.wait(10) == 0


def test_body_on_its_way_is_taken(start):
    node = start(APP)
    client = Client(node.address)
    client.send(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
                b"12345")
    eventually(lambda: Admin(node).requests(), "it is being received")
    node.signal(signal.SIGTERM)
    eventually(lambda: refused(node), "it drains", 5)
    client.send(b"67890")
    answer = client.read_response()
    assert answer.status == 200 and answer.text == "10"
    assert node.process.wait(10) == 0


def test_stream_is_told_and_ends_whole(start):
    node = start(APP, settings={"drain_timeout": "10s"})
    client = Client(node.address)
    client.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.read_head().status == 200
    pieces = client.read_chunks()
    assert next(pieces)
    node.signal(signal.SIGTERM)
    list(pieces)  # raises if it was cut
    client.close()
    assert node.process.wait(10) == 0


def test_drain_timeout_cuts(start):
    node = start(APP, settings={"drain_timeout": "500ms"})
    client = Client(node.address)
    client.send(b"GET /forever HTTP/1.1\r\nHost: a\r\n\r\n")
    eventually(lambda: Admin(node).requests(), "it runs")
    node.signal(signal.SIGTERM)
    try:
        assert client.read_response().status == 503
    except Closed:
        pass
    assert node.process.wait(10) == 0
    node.wait_log("drain_timeout: cutting 1 request")


def test_drain_delay_answers_not_ready_first(start):
    node = start(APP, settings={"drain_delay": "800ms"})
    client = node.connect()
    assert client.get("/-/ready").status == 200
    node.signal(signal.SIGTERM)
    eventually(lambda: node.get("/-/ready").status == 503, "not ready", 5)
    assert node.get("/").text == "ok"
    assert node.get("/-/live").status == 200
    assert Admin(node).ask("GET", "/-/ready").status == 503
    client.close()
    assert node.process.wait(10) == 0


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_queued_connections_are_not_reset(start, tmp_path, kind):
    """Clients that connect all the time see an answer or a refusal, in drain
    after drain."""
    outcomes = collections.Counter()

    def knock(node):
        while True:
            try:
                client = Client(node.address, 10)
            except (ConnectionRefusedError, FileNotFoundError,
                    BlockingIOError, TimeoutError):
                outcomes["refused"] += 1
                return
            try:
                outcomes[client.get("/").status] += 1
            except (OSError, Closed) as error:
                outcomes[repr(error)] += 1
                return
            finally:
                client.close()

    for index in range(8):
        node = start(APP, workers=2, settings={"drain_idle": "0"},
                     name=f"node{index}", listen=None if kind == "tcp"
                     else f"unix:{tmp_path}/app.sock")
        goal = outcomes[200] + 100
        threads = [threading.Thread(target=knock, args=(node,))
                   for _ in range(16)]
        for thread in threads:
            thread.start()
        eventually(lambda g=goal: outcomes[200] > g or len(outcomes) > 2,
                   "it is busy")
        node.signal(signal.SIGTERM)
        for thread in threads:
            thread.join(30)
        assert node.process.wait(20) == 0
    assert set(outcomes) == {200, "refused"}, outcomes
    assert outcomes["refused"] == 8 * 16 and outcomes[200] > 800


def test_stop_under_load_cuts_nothing(start):
    node = start(APP, workers=2)
    with Load(node, "/", clients=8, body=b"ok", expect_closed=True) as load:
        load.progress(300)
        node.signal(signal.SIGTERM)
        assert node.process.wait(30) == 0
    assert not [f for f in load.failures if "refused" not in str(f).lower()], \
        load.failures


def test_unix_socket_is_removed_and_queue_served(start, tmp_path):
    path = tmp_path / "app.sock"
    node = start(APP, listen=f"unix:{path}")
    assert node.get("/").text == "ok"
    client = Client(str(path))
    client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    eventually(lambda: Admin(node).requests(), "it runs")
    node.signal(signal.SIGTERM)
    eventually(lambda: not path.exists(), "the path is gone", 5)
    assert client.read_response().text == "slow"
    assert node.process.wait(10) == 0


def test_background_tasks_are_told(start, tmp_path):
    mark = tmp_path / "mark"
    node = start(APP + """
        app:on_stop(function()
            local f = io.open("%s", "w") f:write("stopped") f:close()
        end)
        moonshine.every("50ms", function() end)""" % mark)
    assert node.get("/").text == "ok"
    node.signal(signal.SIGTERM)
    assert node.process.wait(10) == 0
    assert mark.read_text() == "stopped"


def test_reload_during_drain_is_refused(start):
    node = start(APP)
    client = Client(node.address)
    client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    eventually(lambda: Admin(node).requests(), "it runs")
    node.signal(signal.SIGTERM)
    node.wait_log("finishing")
    ok, text = Admin(node).reload()
    assert not ok and "shutting down" in text
    assert client.read_response().text == "slow"
    assert node.process.wait(10) == 0


def test_term_during_a_reload_gives_it_up(start):
    node = start(APP)
    node.rewrite(APP + 'app:on_start(function() moonshine.sleep(5) end)')
    node.signal(signal.SIGUSR1)
    eventually(lambda: Admin(node).status()["reloading"], "it reloads")
    began = time.monotonic()
    node.signal(signal.SIGTERM)
    assert node.process.wait(20) == 0
    assert time.monotonic() - began < 4


def test_term_while_starting(start):
    node = start('app:on_start(function() moonshine.sleep(5) end)',
                 wait=False)
    node.wait_log("listening")
    node.signal(signal.SIGTERM)
    assert node.process.wait(20) == 0
    assert not os.path.exists(node.run_dir / node.name)


def test_listener_is_free_at_once(start):
    """The next node can bind while the last one still finishes."""
    node = start(APP)
    busy = Client(node.address)
    busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    eventually(lambda: Admin(node).requests(), "it runs")
    node.signal(signal.SIGTERM)

    def bind():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(node.address)
                probe.listen()
            except OSError:
                return False
            return True

    eventually(bind, "the port is free", 5)
    assert busy.read_response().status == 200
    assert node.process.wait(10) == 0


def test_status_is_asked_while_it_stops(start):
    """Its answer needs a child that the master must not outlive."""
    for _ in range(3):
        node = start(APP)
        stop = threading.Event()

        def ask(admin=Admin(node), stop=stop):
            while not stop.is_set():
                try:
                    admin.ask("GET", "/-/status", timeout=5)
                except (OSError, Closed):
                    return

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        eventually(lambda admin=Admin(node): admin.status(), "it answers")
        node.signal(signal.SIGTERM)
        assert node.process.wait(20) == 0
        stop.set()
        for thread in threads:
            thread.join(20)
