"""`moonshine cluster`: several nodes and nginx, started and ended as one."""

import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from support.client import Client, build
from support.node import (BINARY, command, environment, eventually, free_port,
                          processes, write_app)

APP = r"""
app:get("/", function(c) return moonshine.node() .. " one" end)
app:get("/from", function(c) return c:ip() .. " " .. c:scheme() end)
app:get("/slow", function() moonshine.sleep(0.5) return "slow" end)
app:get("/count", function(c)
    return tostring(c:session():update(function(view)
        view:set("n", (view:get("n") or 0) + 1)
        return view:get("n")
    end))
end)
"""


class Cluster:
    def __init__(self, source=APP, *args, size=3):
        self.temp = tempfile.TemporaryDirectory(prefix="moon-")
        self.home = pathlib.Path(self.temp.name)
        self.app = write_app(self.home / "app", source)
        self.run_dir = self.home / "run"
        self.address = ("127.0.0.1", free_port())
        self.output = self.home / "output"
        self.line = [BINARY, "cluster", str(self.app), "--size", str(size),
                     "--listen", "%s:%d" % self.address, "--workers", "1",
                     "--run-dir", str(self.run_dir),
                     "--state-dir", str(self.home / "state"), *args]
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                self.line, env=environment(), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()  # the children are told when it dies
            self.process.wait()
        eventually(lambda: not self.processes(), "all have ended")
        self.temp.cleanup()

    def processes(self):
        """What runs with a path of ours on its command line."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                line = (entry / "cmdline").read_bytes() \
                    if entry.name.isdigit() else b""
            except OSError:
                continue
            if str(self.home).encode() in line:
                found.append(int(entry.name))
        return found

    def said(self):
        return self.output.read_text(errors="replace")

    def wait_serving(self):
        def serves():
            assert self.process.poll() is None, self.said()
            return " nodes behind http://" in self.said()
        eventually(serves, "it serves")

    def get(self, target, headers=None):
        with Client(self.address) as client:
            return client.get(target, headers)

    def node_pid(self, number):
        return int((self.run_dir / f"node-{number}/pid").read_text())

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        assert self.process.wait(30) == 0, self.said()


def test_nodes_behind_nginx():
    with Cluster() as cluster:
        cluster.wait_serving()
        names = {cluster.get("/").text for _ in range(6)}
        assert names == {f"node-{i} one" for i in (1, 2, 3)}
        assert cluster.get("/from", {"X-Forwarded-For": "10.1.2.3"}).text == \
            "127.0.0.1 http"
        cookie = None
        for i in range(1, 7):  # sessions are shared by the nodes
            answer = cluster.get("/count", cookie and {"Cookie": cookie})
            assert answer.text == str(i)
            cookie = cookie or answer.header("Set-Cookie").split(";")[0]
        done = command("status", "--run-dir", cluster.run_dir,
                       "--nodes", "node-1,node-2,node-3")
        assert done.returncode == 0 and done.stdout.count(" ready ") == 3
        cluster.end()
        assert not cluster.processes()


def test_a_node_that_ends_comes_back():
    with Cluster(size=2) as cluster:
        cluster.wait_serving()
        before = cluster.node_pid(2)
        os.kill(before, signal.SIGKILL)
        for _ in range(20):  # nginx asks the other one
            assert cluster.get("/").status == 200
        eventually(lambda: "node-2 is back" in cluster.said(), "it is back")
        assert "node-2 ended (SIGKILL): starting it again" in cluster.said()
        assert cluster.node_pid(2) != before
        cluster.end(signal.SIGTERM)


def test_a_signal_reloads_all():
    with Cluster(size=2) as cluster:
        cluster.wait_serving()
        write_app(cluster.app, APP.replace(" one", " two"))
        cluster.process.send_signal(signal.SIGUSR1)
        eventually(lambda: "node-2: generation 2 live" in cluster.said(),
                   "both reloaded")
        assert {cluster.get("/").text for _ in range(4)} == \
            {"node-1 two", "node-2 two"}
        cluster.end()


def test_the_end_finishes_what_is_in_flight():
    with Cluster(size=2) as cluster:
        cluster.wait_serving()
        with Client(cluster.address) as client:
            client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: "/slow" in command(
                "status", "--requests", "--run-dir", cluster.run_dir,
                "--nodes", "node-1,node-2").stdout, "it is in flight")
            cluster.process.send_signal(signal.SIGINT)
            assert client.read_response().text == "slow"
        assert cluster.process.wait(30) == 0
        assert "SIGINT: finishing what is in flight" in cluster.said()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_second_signal_cuts_what_is_in_flight(method):
    """Who posts and goes away does not stop the handler; the signal does."""
    with Cluster('app:%s("/long", function() moonshine.sleep(100) end)'
                 % method.lower(), size=2) as cluster:
        cluster.wait_serving()
        with Client(cluster.address) as client:
            client.send(build(method, "/long"))
            eventually(lambda: "/long" in command(
                "status", "--requests", "--run-dir", cluster.run_dir,
                "--nodes", "node-1,node-2").stdout, "it is in flight")
            cluster.process.send_signal(signal.SIGINT)
            eventually(lambda: "finishing" in cluster.said(), "it ends")
            assert cluster.process.poll() is None
            cluster.process.send_signal(signal.SIGINT)
            assert cluster.process.wait(20) == 0, cluster.said()
            assert client.read_rest() == b""


def test_no_folder_can_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    write_app(tmp_path / "app", APP)
    done = command("cluster", tmp_path / "app", "--run-dir", tmp_path / "file")
    assert done.returncode == 1
    assert done.stderr == (f"moonshine cluster: cannot make {tmp_path}/file/"
                           "node-cluster: Not a directory\n")


def test_a_folder_too_deep_for_sockets(tmp_path):
    write_app(tmp_path / "app", APP)
    deep = tmp_path / ("d" * 100)
    done = command("cluster", tmp_path / "app", "--run-dir", deep)
    assert done.returncode == 1
    assert "--run-dir takes a shorter" in done.stderr


def test_its_death_ends_the_children():
    with Cluster(size=2) as cluster:
        cluster.wait_serving()
        assert len(cluster.processes()) >= 4
        cluster.process.kill()
        cluster.process.wait()
        eventually(lambda: not cluster.processes(), "all have ended")


def failed(cluster):
    assert cluster.process.wait(30) == 1, cluster.said()
    eventually(lambda: not cluster.processes(), "all have ended")
    return cluster.said()


def test_an_application_that_does_not_load():
    with Cluster("x x", size=2) as cluster:
        said = failed(cluster)
        assert re.search(r"node-\d ended \(exit code 1\)", said)
        assert "app.lua:1:" in said


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with Cluster(APP, "--listen", "%s:%d" % taken.getsockname(),
                     size=1) as cluster:
            said = failed(cluster)
            assert "nginx ended (exit code 1)" in said
            assert "Address already in use" in said


def test_no_nginx():
    with Cluster(APP, "--nginx", "/nowhere/nginx", size=1) as cluster:
        assert "cannot start /nowhere/nginx: No such file" in failed(cluster)


@pytest.mark.parametrize("args, words", [
    (["--size", "0"], "--size: expected a number from 1 to 64"),
    (["--balance", "fair"], "--balance: "),
    (["--listen", "nonsense:x"], "--listen: "),
])
def test_wrong_use(args, words, tmp_path):
    done = command("cluster", tmp_path, *args)
    assert done.returncode == 2 and words in done.stderr


def test_killed_before_a_child_asks_to_be_told(tmp_path):
    """Its parent is gone before prctl: nothing will tell the child."""
    write_app(tmp_path / "app", APP)
    home = str(tmp_path).encode()

    def ours():
        """Of the command and its children, not of strace."""
        found = []
        for pid, parent, _, state in processes():
            try:
                line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if state != "Z" and line.startswith(BINARY.encode()) and \
                    home in line:
                found.append((pid, parent))
        return found

    with subprocess.Popen(
            ["strace", "-f", "-qq", "-o", tmp_path / "trace",
             "-e", "trace=prctl", "-e", "inject=prctl:delay_enter=1000000",
             BINARY, "cluster", tmp_path / "app", "--size", "1",
             "--listen", "127.0.0.1:%d" % free_port(),
             "--run-dir", tmp_path / "run", "--state-dir", tmp_path / "state"],
            env=environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as strace:
        def parent_of_one():
            pids = {pid for pid, _ in ours()}
            return next((parent for _, parent in ours() if parent in pids), None)

        try:
            os.kill(eventually(parent_of_one, "a child"), signal.SIGKILL)
            eventually(lambda: not ours(), "all have ended")
        finally:
            for pid, _ in ours():
                os.kill(pid, signal.SIGKILL)
            strace.wait(20)


def test_the_table_stays_current_on_a_terminal():
    with Cluster(size=1) as cluster:
        cluster.process.kill()
        cluster.process.wait()
        eventually(lambda: not cluster.processes(), "all have ended")
        ours, theirs = pty.openpty()
        shown = subprocess.Popen(
            cluster.line, env=environment({"TERM": "xterm"}), stdin=theirs,
            stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        text, until = "", time.monotonic() + 30
        while not re.search(r"node-1 +ready +\d+ +1 +1 ", text):
            assert time.monotonic() < until, text
            if select.select([ours], [], [], 0.1)[0]:
                text += os.read(ours, 65536).decode()
        assert "\033[2A\r\033[J" in text  # drawn over
        shown.send_signal(signal.SIGTERM)
        while True:  # else it could wait for room to write
            try:
                if not os.read(ours, 65536):
                    break
            except OSError:
                break
        assert shown.wait(30) == 0
        os.close(ours)
