"""Under a service manager: what it hears, and the sockets that it passes."""

import os
import signal
import socket
import threading

import pytest

from support.admin import Admin
from support.client import Client, build
from support.node import Node, command, eventually, write_app
from support.service import Manager, activator, listening
from support.upgrade import program, upgrade

APP = """
    app:get("/", function() return "ok" end)
    app:get("/slow", function() moonshine.sleep("6s") return "slow" end)
    app:get("/forever", function() moonshine.sleep("60s") return "" end)
    app:get("/said", function() return {
        os.getenv("NOTIFY_SOCKET") or "-", os.getenv("WATCHDOG_USEC") or "-",
        os.getenv("LISTEN_FDS") or "-", os.getenv("LISTEN_PID") or "-" }
    end)
"""


@pytest.fixture(params=["path", "abstract"])
def any_manager(request, tmp_path):
    with Manager(tmp_path, request.param == "abstract") as manager:
        yield manager


@pytest.fixture
def manager(tmp_path):
    with Manager(tmp_path) as manager:
        yield manager


# ---- what it hears ----


def test_a_life(start, any_manager):
    manager = any_manager
    node = start(APP, env=manager.environment(), workers=2)
    manager.wait("READY")
    assert manager.wait("STATUS")[-1].startswith("generation 1 on 2 workers, ")
    ok, text = Admin(node).reload()
    assert ok, text
    manager.wait("READY", 2)
    assert manager.wait("STATUS", 2)[-1].startswith("generation 2 on 2")
    node.rewrite("error('broken')")
    ok, _ = Admin(node).reload()
    assert not ok
    manager.wait("READY", 3)  # it is over, though it failed
    assert "the last reload failed" in manager.wait("STATUS", 3)[-1]
    node.signal(signal.SIGTERM)
    assert node.process.wait(20) == 0
    assert manager.order("READY", "RELOADING", "STOPPING") == [
        (name, node.pid) for name in ("READY", "RELOADING", "READY",
                                      "RELOADING", "READY", "STOPPING")]
    assert all(int(usec) > 0 for usec in manager.all("MONOTONIC_USEC"))


def test_children_do_not_speak_for_the_service(start, manager):
    node = start(APP, env=manager.environment(WATCHDOG_USEC="60000000"))
    assert node.get("/said").json() == ["-", "-", "-", "-"]


def test_a_start_that_fails_is_never_ready(start, manager):
    node = start("error('broken')", env=manager.environment(), wait=False)
    node.expect_exit = 1
    assert node.process.wait(20) == 1
    assert manager.all("READY") == []


def test_a_start_that_is_slow_asks_for_time(start, manager):
    node = start("""
        app:on_start(function() moonshine.sleep("300ms") end)
        app:get("/", function() return "ok" end)
    """, env=manager.environment())
    manager.wait("READY")
    names = [name for name, _ in manager.order("EXTEND_TIMEOUT_USEC", "READY")]
    assert names[0] == "EXTEND_TIMEOUT_USEC" and names[-1] == "READY"
    assert node.get("/").text == "ok"


def test_a_long_drain_asks_for_time(start, manager):
    node = start(APP, env=manager.environment())
    busy = node.connect()
    busy.send(build("GET", "/slow"))
    eventually(lambda: Admin(node).requests(), "it runs")
    before = len(manager.all("EXTEND_TIMEOUT_USEC"))
    node.signal(signal.SIGTERM)
    # Again and again, for as long as it goes on.
    manager.wait("EXTEND_TIMEOUT_USEC", before + 2)
    assert "finishing what is in flight, 1 connection" in \
        manager.wait("STATUS", 2)[-1]
    assert busy.read_response().text == "slow"
    assert node.process.wait(20) == 0


def test_the_watchdog_is_fed_while_somebody_serves(start, manager, tmp_path):
    gate = tmp_path / "gate"
    node = start(f"""
        assert(not io.open({str(gate)!r}), "the gate is shut")
        app:get("/", function() return "ok" end)
    """, env=manager.environment(WATCHDOG_USEC="400000"))
    manager.wait("WATCHDOG", 5)
    # No worker is any good, and none comes up.
    gate.write_text("")
    os.kill(Admin(node).workers()[0]["pid"], signal.SIGKILL)
    node.wait_log("died: SIGKILL")
    count = len(manager.all("WATCHDOG"))
    eventually(lambda: node.log().count("the gate is shut") >= 4, "it tries")
    assert len(manager.all("WATCHDOG")) == count
    assert manager.all("READY") == ["1"]
    gate.unlink()
    manager.wait("WATCHDOG", count + 3)
    assert node.get("/").text == "ok"


def test_an_upgrade_moves_the_main_pid(start, manager, tmp_path):
    node = start(APP, binary=str(program(tmp_path)),
                 env=manager.environment(WATCHDOG_USEC="400000"))
    old = node.pid
    manager.wait("READY")
    upgrade(node)
    assert manager.wait("MAINPID") == [str(node.pid)]
    manager.wait("READY", 2)
    # The new one says nothing before the manager knows it.
    assert manager.order("READY", "MAINPID", "STOPPING") == [
        ("READY", old), ("MAINPID", old), ("READY", node.pid)]
    order = [m["pid"] for m in manager.messages]
    assert order == sorted(order, key=[old, node.pid].index)
    # And goes on feeding the watchdog.
    count = len(manager.all("WATCHDOG"))
    manager.wait("WATCHDOG", count + 3)
    assert manager.messages[-1]["pid"] == node.pid
    upgrade(node)
    assert manager.wait("MAINPID", 2)[-1] == str(node.pid)


# ---- the sockets that it passes ----


def given(start, tmp_path, sockets, names=None, **options):
    binary = activator(tmp_path, sockets, names)
    address = sockets[0].getsockname()
    listen = f"unix:{address}" if isinstance(address, str) else \
        f"{address[0]}:{address[1]}"
    options.setdefault("configured", True)
    return start(APP, binary=binary, listen=listen,
                 pass_fds=[s.fileno() for s in sockets], **options)


def test_sockets_replace_listen(start, tmp_path):
    first, second = listening(), listening(str(tmp_path / "app.sock"))
    node = given(start, tmp_path, [first, second], ["web", "local"])
    assert "the service manager gives 127.0.0.1:" in node.log()
    assert node.get("/").text == "ok"
    with Client(str(tmp_path / "app.sock")) as client:
        assert client.get("/").text == "ok"
    assert node.get("/said").json() == ["-"] * 4
    listed = Admin(node).status()["listen"]
    assert listed == [f"127.0.0.1:{first.getsockname()[1]}",
                      f"unix:{tmp_path}/app.sock"]
    # They are the manager's: they outlive us, and nothing is reset.
    node.signal(signal.SIGTERM)
    assert node.process.wait(20) == 0
    assert (tmp_path / "app.sock").exists()
    for sock in (first, second):
        with socket.socket(sock.family) as client:
            client.settimeout(10)
            client.connect(sock.getsockname())
            client.send(build("GET", "/"))
    again = given(start, tmp_path, [first, second], name="again")
    assert again.get("/").text == "ok"


def test_a_socket_for_the_admin_endpoints(start, tmp_path):
    first, admin = listening(), listening(str(tmp_path / "admin.sock"))
    node = given(start, tmp_path, [first, admin], ["web", "admin"])
    status = Admin(node, str(tmp_path / "admin.sock")).status()
    assert status["listen"] == [f"127.0.0.1:{first.getsockname()[1]}"]
    done = command("status", "--admin", f"unix:{tmp_path}/admin.sock")
    assert done.returncode == 0, done.stderr
    node.signal(signal.SIGTERM)
    assert node.process.wait(20) == 0
    assert (tmp_path / "admin.sock").exists()


def test_they_survive_upgrades(start, tmp_path):
    first = listening(str(tmp_path / "app.sock"))
    admin = listening(str(tmp_path / "admin.sock"))
    node = given(start, tmp_path, [first, admin], ["web", "admin"])
    talk = Admin(node, str(tmp_path / "admin.sock"))
    for _ in range(2):
        upgrade(node, talk)
        assert node.get("/").text == "ok"
        assert talk.status()["pid"] == node.pid
        assert (tmp_path / "app.sock").exists()
    node.signal(signal.SIGTERM)
    assert node.process.wait(20) == 0
    assert (tmp_path / "app.sock").exists()


def test_restarts_reset_nobody(start, tmp_path):
    """What connects while no node runs waits for the next one."""
    sock = listening()
    stop, lost, done = threading.Event(), [], []

    def dial():
        while not stop.is_set():
            try:
                with Client(sock.getsockname()) as client:
                    client.send(build("GET", "/", {"Connection": "close"}))
                    done.append(client.read_response().status)
            except Exception as error:  # pylint: disable=broad-except
                lost.append(repr(error))
    threads = [threading.Thread(target=dial) for _ in range(4)]
    try:
        for index in range(3):
            node = given(start, tmp_path, [sock], name=f"n{index}",
                         wait=False)
            if index == 0:
                for thread in threads:
                    thread.start()
            goal = len(done) + 200
            eventually(lambda g=goal: len(done) >= g or lost, "it answers")
            node.signal(signal.SIGTERM)
            assert node.process.wait(20) == 0
        last = given(start, tmp_path, [sock], name="last")
        goal = len(done) + 50
        eventually(lambda: len(done) >= goal or lost, "it answers")
        assert last.get("/").text == "ok"
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert lost == [] and set(done) == {200}


def test_what_cannot_be_served(tmp_path):
    app = write_app(tmp_path / "app", APP)
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagram.bind(("127.0.0.1", 0))
    with Node(app, binary=activator(tmp_path, [datagram], ["syslog"]),
              pass_fds=[datagram.fileno()], wait=False,
              configured=True) as node:
        node.expect_exit = 1
        assert node.process.wait(20) == 1
        assert "descriptor 3 is not a stream socket (\"syslog\")" in node.log()
        assert "Accept=no" in node.log()
