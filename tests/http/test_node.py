"""Workers, signals, the node's own endpoints."""

import json
import os
import re
import resource
import signal
import threading

import pytest

from support.admin import Admin
from support.client import Client, build
from support.node import eventually

APP = '''
app:get("/", function() return "hello" end)
app:get("/worker", function() return tostring(moonshine.worker().id) end)
app:get("/sleep", function() moonshine.sleep(1) return "slept" end)
'''


def test_live_and_ready(start):
    node = start(APP)
    assert node.get("/-/live").status == 200
    assert node.get("/-/ready").status == 200
    assert node.get("/-/status").status == 404
    assert node.get("/-/metrics").status == 404
    assert node.request("POST", "/-/reload").status in (404, 405)


def test_access_log_is_quiet_about_health(start):
    node = start(APP)
    node.get("/")
    node.wait_log(r"access .*target=/ ")
    assert "/-/ready" not in node.log()


def test_all_workers_serve(start):
    node = start(APP, workers=3)
    seen = set()

    def ask():
        clients = [node.connect() for _ in range(12)]
        seen.update(c.get("/worker").text for c in clients)
        for client in clients:
            client.close()
        return len(seen) == 3

    eventually(ask, "every worker answers")


def test_dead_workers_come_back(start):
    node = start(APP, workers=2)
    for _ in range(3):
        before = node.children()
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: len(node.children()) == 2 and
                   before[0] not in node.children(), "a new worker")
        for _ in range(10):
            assert node.get("/").text == "hello"


def test_all_workers_dead_at_once(start):
    node = start(APP, workers=2)
    for pid in node.children():
        os.kill(pid, signal.SIGKILL)
    assert node.get("/").text == "hello"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT,
                                    signal.SIGQUIT])
def test_ending_signals_drain(start, number):
    node = start(APP, settings={"drain_idle": "100ms"})
    busy = node.connect()
    busy.send(build("GET", "/sleep"))
    idle = node.connect()
    assert idle.get("/").status == 200
    # The slow request must have reached the worker before the signal does.
    assert node.get("/").text == "hello"
    node.signal(number)
    response = busy.read_response()
    assert response.text == "slept"
    assert response.header("Connection").lower() == "close"
    assert node.process.wait(20) == 0


def test_second_signal_ends_at_once(start):
    node = start(APP, settings={"drain_timeout": "300s", "timeout": "300s"})
    client = node.connect()
    client.send(build("GET", "/sleep"))
    assert node.get("/").text == "hello"
    node.signal(signal.SIGTERM)
    node.wait_log("SIGTERM")
    # One that comes at once is taken for the first.
    eventually(lambda: node.process.poll() is not None or
               node.signal(signal.SIGTERM), "the node exits")
    node.expect_exit = node.process.returncode


def test_refuses_nothing_while_draining_begins(start):
    """Connections that queued when TERM came are answered, not reset."""
    for _ in range(3):
        node = start(APP)
        failures = []
        served = []
        stop = threading.Event()

        def ask():
            while not stop.is_set():
                try:
                    with Client(node.address) as client:
                        client.send(build("GET", "/",
                                          {"Connection": "close"}))
                        served.append(client.read_response().status)
                except (ConnectionRefusedError, TimeoutError):
                    return  # closed for good: the balancer goes elsewhere
                except Exception as error:
                    failures.append(repr(error))
                    return

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(served) > 100)
        node.signal(signal.SIGTERM)
        assert node.process.wait(30) == 0
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert set(served) == {200}


def test_signals_are_logged_with_their_meaning(start):
    node = start(APP)
    node.signal(signal.SIGHUP)
    node.wait_log(r"(?i)HUP.*(log|reopen)")
    node.signal(signal.SIGUSR1)
    node.wait_log(r"(?i)USR1.*reload")


def test_log_file_is_reopened(start, tmp_path):
    path = tmp_path / "node.log"
    node = start(APP, settings={"log.file": str(path)})
    node.get("/")
    eventually(lambda: path.exists() and path.read_text(), "a log file")
    path.rename(tmp_path / "old.log")
    node.signal(signal.SIGHUP)
    eventually(lambda: path.exists() and (node.get("/") and path.read_text()),
               "a new log file")


def admin(node, method, target):
    path = str(node.run_dir / node.name / "admin.sock")
    with Client(path) as client:
        return client.request(method, target)


def test_admin_socket(start):
    node = start(APP, workers=2)
    node.get("/")
    status = admin(node, "GET", "/-/status")
    assert status.status == 200
    json.loads(status.text)
    metrics = admin(node, "GET", "/-/metrics")
    assert metrics.status == 200
    assert re.search(r"^# TYPE ", metrics.text, re.MULTILINE)
    assert admin(node, "GET", "/-/ready").status == 200
    done = admin(node, "POST", "/-/reload")
    assert done.status == 200
    assert "generation 2" in done.text
    mode = os.stat(node.run_dir / node.name).st_mode & 0o777
    assert mode == 0o700


def test_admin_answers_with_all_workers_dead(start):
    node = start('app:on_start(function() if moonshine.clock() > 0 then end end)'
                 + APP, workers=1)
    os.kill(node.children()[0], signal.SIGSTOP)
    try:
        assert admin(node, "GET", "/-/status").status == 200
    finally:
        for pid in node.children():
            os.kill(pid, signal.SIGCONT)


def test_worker_ignores_stray_signals(start):
    node = start(APP)
    worker = node.children()[0]
    strays = [signal.SIGPIPE, signal.SIGALRM, signal.SIGVTALRM,
              signal.SIGPROF, signal.SIGIO, signal.SIGPWR, signal.SIGXFSZ,
              *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)]
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, *strays):
        os.kill(worker, number)
    assert node.get("/").text == "hello"
    assert node.children() == [worker]
    for number in strays:
        os.kill(node.pid, number)
    assert Admin(node).status()["worker_restarts"] == 0


def test_descriptors_up_to_the_hard_limit(start):
    """The soft limit of a shell, 1024, would allow 819 connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        node = start(APP)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    now, _ = resource.prlimit(node.children()[0], resource.RLIMIT_NOFILE)
    assert now == min(hard, 1 << 20)


def test_master_killed_takes_its_workers(start):
    node = start(APP, workers=2)
    node.signal(signal.SIGKILL)
    node.process.wait()
    eventually(lambda: not node.session(), "the workers end", 40)
    node.expect_exit = -signal.SIGKILL


def test_pid_file(start):
    node = start(APP)
    folder = node.run_dir / node.name
    pids = [p.read_text().strip() for p in folder.iterdir()
            if "pid" in p.name]
    assert pids == [str(node.pid)]
