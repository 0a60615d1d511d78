"""Several nodes: `status --nodes`, and a reload that goes from one to the next."""

import contextlib
import json
import pathlib
import re
import tempfile
import threading

import pytest

from support.node import Node, command, eventually, write_app
from support.servers import RedisServer

GOOD = 'app:get("/", function() return "%s" end)'
NAMES = "n1,n2,n3"


class Nodes:
    """Three of them, which share application and run directory."""

    def __init__(self, home, source, stack):
        self.app = write_app(home / "app", source)
        self.run_dir = home / "run"
        self.nodes = [stack.enter_context(
            Node(self.app, name=name, run_dir=self.run_dir))
            for name in NAMES.split(",")]

    def command(self, verb, *args, nodes=NAMES):
        return command(verb, "--run-dir", self.run_dir, "--nodes", nodes, *args)

    def texts(self):
        return [node.get("/").text for node in self.nodes]

    def rewrite(self, source):
        write_app(self.app, source)


@pytest.fixture(name="nodes")
def fixture_nodes():
    # Not tmp_path, which is too long for the path of a socket.
    with tempfile.TemporaryDirectory(prefix="moon-") as home, \
            contextlib.ExitStack() as stack:
        yield Nodes(pathlib.Path(home), GOOD % "one", stack)


class Traffic:
    """Asks all nodes, again and again, until the block ends."""

    def __init__(self, nodes):
        self.stopping = threading.Event()
        self.answers = 0
        self.threads = [threading.Thread(target=self.run, args=(node,))
                        for node in nodes.nodes]

    def run(self, node):
        with node.connect() as client:
            while not self.stopping.wait(0.005):
                client.get("/")
                self.answers += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def test_all_nodes_reload_one_after_the_other(nodes):
    nodes.rewrite(GOOD % "two")
    with Traffic(nodes):
        done = nodes.command("reload", "--settle", "1s")
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert lines[0] == "3 nodes: measuring for 1 s what is usual"
    assert re.match(r"usual: \d+ requests, 0\.\d % failed", lines[1])
    for name, (said, settled) in zip(NAMES.split(","),
                                     zip(lines[2::2], lines[3::2])):
        assert said == f"{name}: generation 2 live on 1 worker (1 route)"
        assert settled.startswith(f"{name}: settled after 1.")
        assert ": 0 requests" not in settled
    assert nodes.texts() == ["two"] * 3


def test_code_that_does_not_load_stops_at_the_first(nodes):
    nodes.rewrite("x x")
    done = nodes.command("reload")
    assert done.returncode == 1
    assert "n1: failed: app.lua:1: " in done.stdout
    assert done.stdout.splitlines()[-1] == "left alone: n2, n3"
    assert nodes.texts() == ["one"] * 3


def test_code_that_fails_is_rolled_back_at_the_first(nodes):
    nodes.rewrite('app:get("/", function() error("bug") end)')
    with Traffic(nodes):
        done = nodes.command("reload", "--settle", "10s")
    assert done.returncode == 1, done
    assert "n1: worse after " in done.stdout
    assert re.search(r"100\.0 % failed, p95 [\d.]+ ms \(before: 0\.", done.stdout)
    assert done.stdout.splitlines()[-3:] == [
        "n1: rolling back",
        "n1: generation 3 live on 1 worker (1 route)",
        "left alone: n2, n3"]
    assert nodes.texts() == ["one"] * 3


def test_a_node_that_is_gone_stops_it(nodes):
    nodes.rewrite(GOOD % "two")
    done = nodes.command("reload", nodes="n1,n9,n2")
    assert done.returncode == 1
    assert 'no node "n9" runs here' in done.stderr
    assert "running: n1, n2, n3" in done.stderr
    assert nodes.texts() == ["one"] * 3
    done = nodes.command("reload", nodes="n1,127.0.0.1:1,n2")
    assert done.returncode == 1
    assert "127.0.0.1:1: failed: no node answers at" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["new code on: n1",
                                             "left alone: n2"]
    assert nodes.texts() == ["two", "one", "one"]


def test_the_table_shows_what_differs(nodes):
    done = nodes.command("status")
    assert done.returncode == 0
    head, *rows = done.stdout.splitlines()
    assert head.split()[:4] == ["NODE", "STATE", "PID", "GEN"]
    assert [row.split()[:4] for row in rows] == [
        [name, "ready", str(node.pid), "1"]
        for name, node in zip(NAMES.split(","), nodes.nodes)]
    nodes.rewrite(GOOD % "two")
    assert nodes.command("reload", nodes="n2").returncode == 0
    done = nodes.command("status")
    assert done.returncode == 0
    assert "nodes differ in the code they serve:" in done.stdout
    assert done.stdout.count(": n1 n3\n") == 1
    assert "n1: what is on disk is not what it serves" in done.stdout
    codes = [node["code"] for node in json.loads(
        nodes.command("status", "--json").stdout)["nodes"]]
    assert codes[0] == codes[2] != codes[1]


def test_the_table_has_a_line_for_a_node_that_is_gone(nodes):
    assert nodes.nodes[1].command("stop").returncode == 0
    done = nodes.command("status")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines()
            if line.startswith("n2")][0].startswith("n2    does not answer: ")
    found = json.loads(nodes.command("status", "--json").stdout)["nodes"]
    assert [node.get("error") is None for node in found] == [True, False, True]


def test_rollback_of_several(nodes):
    nodes.rewrite(GOOD % "two")
    assert nodes.command("reload").returncode == 0
    done = nodes.command("rollback")
    assert done.returncode == 0, done
    eventually(lambda: nodes.texts() == ["one"] * 3, "all are back")


def test_settle_wants_nodes():
    done = command("reload", "--settle", "1s")
    assert done.returncode == 2 and "--settle goes with --nodes" in done.stderr


def test_all_nodes_of_the_list_in_redis():
    with tempfile.TemporaryDirectory(prefix="moon-") as home, \
            RedisServer() as redis, contextlib.ExitStack() as stack:
        env = {"MOONSHINE_CLUSTER_URL": redis.url}
        done = command("reload", "--nodes", "all", env=env)
        assert done.returncode == 1
        assert "no node has put itself on the list there" in done.stderr
        app = write_app(pathlib.Path(home) / "app", GOOD % "one")
        nodes = [stack.enter_context(Node(
            app, name=name, settings={"redis.url": redis.url}))
            for name in ("b", "a")]  # each in a run directory of its own
        eventually(lambda: redis.cli("ZCARD", "moon:nodes") == "2",
                   "both are on the list")
        write_app(app, GOOD % "two")
        done = command("reload", "--nodes", "all", env=env)
        assert done.returncode == 0, done
        assert [line.split(":")[0] for line in done.stdout.splitlines()] == \
            ["a", "b"]
        assert [node.get("/").text for node in nodes] == ["two", "two"]
        done = command("status", "--nodes", "all", env=env)
        assert done.returncode == 0 and done.stdout.count(" ready ") == 2
        redis.kill()
        done = command("status", "--nodes", "all", env=env)
        assert done.returncode == 1
        assert f"the list of nodes at {redis.url}" in done.stderr


def test_the_list_must_be_somewhere():
    done = command("status", "--nodes", "all")
    assert done.returncode == 2 and "MOONSHINE_CLUSTER_URL" in done.stderr
