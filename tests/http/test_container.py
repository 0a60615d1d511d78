"""Process 1 of a container: nobody above it, and orphans of others below it.

`unshare` makes it process 1 of a namespace of its own; what else a container
is (its limits) has its unit tests in tests/unit/base_config.c."""

import os
import pathlib
import signal
import subprocess

import pytest

from support.admin import Admin
from support.node import BINARY, Node, eventually, write_app

APP = """
    app:get("/", function() return "ok" end)
    app:get("/slow", function() moonshine.sleep("700ms") return "slow" end)
    app:get("/orphans", function()
        -- Each shell ends at once, and what it began ends a little later.
        for _ = 1, 20 do os.execute("sh -c 'sleep 0.1 & exit' ") end
        return "left"
    end)
"""


def read(path):
    """Processes come and go: "" of one that has gone."""
    try:
        return pathlib.Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Contained(Node):
    """The outer process is unshare; `inner` is process 1."""

    def __init__(self, directory, *args, **options):
        wrapper = pathlib.Path(directory) / "contained"
        wrapper.write_text(f'#!/bin/sh\nexec unshare --pid --fork --mount-proc '
                           f'--kill-child "{BINARY}" "$@"\n')
        wrapper.chmod(0o755)
        super().__init__(write_app(pathlib.Path(directory) / "app", APP),
                         *args, binary=str(wrapper), **options)
        self.inner = eventually(self.children, "it has begun")[0]

    def signal(self, number):
        self.ending = True
        os.kill(self.inner, number)

    def processes(self):
        """(pid inside, state) of all that is in the container."""
        found = []
        for pid in self.everybody(self.inner):
            text = read(f"/proc/{pid}/status")
            if not text:
                continue
            fields = dict(line.split(":\t", 1) for line in text.splitlines()
                          if ":\t" in line)
            found.append((fields["NSpid"].split()[-1], fields["State"][0]))
        return found

    def everybody(self, pid):
        for child in read(f"/proc/{pid}/task/{pid}/children").split():
            yield from self.everybody(child)
        yield pid


@pytest.fixture(scope="module", autouse=True)
def namespaces():
    done = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc",
                           "true"],
                          stderr=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        pytest.skip("no namespaces here")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT,
                                    signal.SIGQUIT])
def test_it_is_stopped_as_ever(tmp_path, number):
    with Contained(tmp_path) as node:
        assert ("1", "S") in node.processes()
        client = node.connect()
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: Admin(node).requests(), "it runs")
        node.signal(number)
        assert client.read_response().text == "slow"
        assert node.process.wait(20) == 0


def test_orphans_are_reaped(tmp_path):
    with Contained(tmp_path) as node:
        before = len(node.processes())
        assert node.get("/orphans").text == "left"
        eventually(lambda: len(node.processes()) == before, "nobody is left")
        assert "Z" not in [state for _, state in node.processes()]
        worker = Admin(node).wait_serving(1)[0]
        assert worker["pid"] in [int(pid) for pid, _ in node.processes()]


def test_signals_that_are_ignored_by_process_1_elsewhere(tmp_path):
    """The kernel gives process 1 only those signals that it handles."""
    with Contained(tmp_path) as node:
        for number in (signal.SIGUSR1, signal.SIGHUP):
            os.kill(node.inner, number)
        node.wait_log("generation 2 live")
        node.wait_log("SIGHUP")
        assert node.get("/").text == "ok"


def test_no_upgrade(tmp_path):
    """Its end is the end of the container."""
    with Contained(tmp_path) as node:
        os.kill(node.inner, signal.SIGUSR2)
        node.wait_log("no upgrade: this is process 1")
        assert node.get("/").text == "ok"


def test_a_worker_that_dies(tmp_path):
    with Contained(tmp_path) as node:
        inside = Admin(node).wait_serving(1)[0]["pid"]
        outside = [pid for pid in node.everybody(node.inner) if f"\t{inside}\n"
                   in read(f"/proc/{pid}/status")]
        os.kill(int(outside[0]), signal.SIGKILL)
        node.wait_log("died: SIGKILL")
        eventually(lambda: Admin(node).wait_serving(1)[0]["pid"] != inside,
                   "another one serves")
        assert node.get("/").text == "ok"
