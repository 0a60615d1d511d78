"""Three nodes behind nginx, and visitors who notice when something is lost.

MOONSHINE_ROUNDS=20 makes more of each than a test run has time for.
"""

import contextlib
import os
import pathlib
import signal
import tempfile

import pytest

from support import nginx as front
from support.node import Node, command, eventually, free_port, write_app
from support.servers import RedisServer
from support.traffic import SITE, Traffic
from support.upgrade import upgrade

ROUNDS = int(os.environ.get("MOONSHINE_ROUNDS", "4"))
NAMES = ("n1", "n2", "n3")

pytestmark = [pytest.mark.seconds(60 + 20 * ROUNDS),
              pytest.mark.skipif(not front.available(), reason="needs nginx")]


class Site:
    def __init__(self, home, stack, tcp):
        self.home = home
        self.tcp = tcp
        self.listen = {}
        self.seen = home / "seen"
        self.seen.touch()
        self.app = write_app(home / "app", SITE)
        self.run_dir = home / "run"
        self.redis = stack.enter_context(RedisServer())
        self.nodes = []
        stack.push(self.end)
        for name in NAMES:
            self.nodes.append(self.make(name))
        self.nginx = stack.enter_context(front.Nginx(
            [node.listen for node in self.nodes]))

    def make(self, name):
        self.listen.setdefault(
            name, f"127.0.0.1:{free_port()}" if self.tcp else
            f"unix:{self.home / name}.sock")
        return Node(self.app, name=name, run_dir=self.run_dir,
                    state_dir=self.home / "state",
                    listen=self.listen[name],
                    env={"SEEN": str(self.seen)},
                    settings={"redis.url": self.redis.url,
                              "trusted_proxies": "unix, 127.0.0.1"})

    def end(self, kind, *_):
        for node in self.nodes:
            if kind is None:
                node.stop()
            else:
                node.kill()

    def restart(self, number):
        self.nodes[number].stop()
        self.nodes[number] = self.make(NAMES[number])

    def rewrite(self, source):
        write_app(self.app, source)

    def reload(self, *args):
        return command("reload", "--run-dir", self.run_dir, "--nodes",
                       ",".join(NAMES), *args)


@pytest.fixture(name="site")
def fixture_site(request):
    with tempfile.TemporaryDirectory(prefix="moon-") as home, \
            contextlib.ExitStack() as stack:
        yield Site(pathlib.Path(home), stack,
                   tcp=getattr(request, "param", "unix") == "tcp")


def nothing_lost(traffic):
    assert not traffic.failures, traffic.failures[:5]
    twice, never = traffic.twice()
    assert not twice and not never
    assert set(traffic.nodes) == set(NAMES)


def test_rolling_reloads_lose_nothing(site):
    bad = 0
    with Traffic(site.nginx.address, site.seen) as traffic:
        for i in range(ROUNDS):
            if i % 4 == 3:
                bad += 1
                site.rewrite("local x = nil + 1\n" + SITE)
                done = site.reload()
                assert done.returncode == 1
                assert done.stdout.endswith("left alone: n2, n3\n")
                continue
            site.rewrite(SITE.replace("VERSION", str(i)))
            done = site.reload()
            assert done.returncode == 0, done
            traffic.wait(200)
    nothing_lost(traffic)
    assert {str(i) for i in range(ROUNDS) if i % 4 != 3} <= \
        set(traffic.versions) and bad == ROUNDS // 4


def test_code_that_answers_wrongly_goes_back_at_the_first_node(site):
    with Traffic(site.nginx.address, site.seen) as traffic:
        traffic.wait(300)
        site.rewrite(SITE.replace('return "page VERSION"', "error('bug')"))
        done = site.reload("--settle", "5s")
        assert done.returncode == 1, done
        assert "n1: rolling back" in done.stdout
        assert done.stdout.endswith("left alone: n2, n3\n")
        failed = len(traffic.failures)
        traffic.wait(300)
    # Those that the bad code answered, and no others.
    assert failed >= 5 and len(traffic.failures) == failed
    assert all("500" in text for text in traffic.failures)


@pytest.mark.parametrize("site", ["unix", "tcp"], indirect=True)
def test_rolling_restarts_lose_nothing(site):
    with Traffic(site.nginx.address, site.seen) as traffic:
        for i in range(ROUNDS):
            site.restart(i % 3)
            # nginx asks it again once fail_timeout is over.
            served = traffic.nodes[NAMES[i % 3]]
            eventually(lambda: traffic.nodes[NAMES[i % 3]] > served,
                       "it serves again")
    nothing_lost(traffic)


@pytest.mark.parametrize("site", ["unix", "tcp"], indirect=True)
def test_rolling_upgrades_lose_nothing(site):
    with Traffic(site.nginx.address, site.seen) as traffic:
        for i in range(ROUNDS):
            upgrade(site.nodes[i % 3])
            traffic.wait(100)
    nothing_lost(traffic)


def test_a_killed_node_costs_what_it_had_in_hand(site):
    with Traffic(site.nginx.address, site.seen) as traffic:
        traffic.wait(300)
        victim = site.nodes[0]
        for pid in [victim.pid, *victim.session()]:
            os.kill(pid, signal.SIGKILL)
        victim.expect_exit = -signal.SIGKILL
        traffic.wait(600)
    # Six visitors had at most one request each with it.
    assert len(traffic.failures) <= 6, traffic.failures
    assert all(text.startswith(("order", "count"))
               for text in traffic.failures)
    assert not traffic.twice()[0]


def test_a_stopped_node_costs_what_it_had_in_hand(site):
    """It accepts (the kernel does) and never answers: nginx gives up on it."""
    victim = site.nodes[0]
    pids = [victim.pid, *victim.session()]
    with Traffic(site.nginx.address, site.seen) as traffic:
        traffic.wait(300)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            before = traffic.nodes["n2"] + traffic.nodes["n3"]
            traffic.wait(3)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        traffic.wait(300)
    assert traffic.nodes["n2"] + traffic.nodes["n3"] > before
    assert len(traffic.failures) <= 6, traffic.failures
    assert not traffic.twice()[0]
