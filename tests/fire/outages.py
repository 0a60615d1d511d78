"""Redis dead, stopped, partitioned (30 s), -OOM, -LOADING, -READONLY, garbage,
slow: what routes with a session and without one notice, and how often the node
tries to connect."""

import contextlib
import os
import pathlib
import tempfile
import time

from fire.ledger import Clients, expect, request
from fire.probe import Probe
from fire.report import Row, percentile
from fire.site import SETTINGS
from support import netns
from support.admin import Admin
from support.faults import Proxy
from support.node import Node, eventually, write_app
from support.servers import RedisServer

USERS = 8
WORKERS = 2
APP = """
app:get("/plain", function() return "plain" end)
app:get("/both", function(c)
    local session = c:session()
    local n = (session:get("n") or 0) + 1
    session:set("n", n)
    return tostring(n)
end)
"""


class Watch:
    """Keeps when each answer about a session came, and how long it took."""

    def __init__(self, node):
        self.answers = []
        self.clients = Clients(node.address)
        cookies = [node.get("/both").all("Set-Cookie")[0].split(";")[0]
                   for _ in range(USERS)]
        self.routes = [[("/both", request(
            "GET", "/both", headers=[f"Cookie: {cookie}"]),
            expect(200, 503))] for cookie in cookies]

    def __enter__(self):
        self.clients.ledger.settled = self.note
        self.clients.__enter__()
        for route in self.routes:
            self.clients.add(route, 1, 0.005)
        self.clients.progress(50)
        return self

    def __exit__(self, *error):
        self.clients.__exit__(*error)

    def note(self, _, answer, seconds):
        self.answers.append((time.monotonic(), answer[0], seconds))

    def took(self, since, until):
        """Of those that were asked and answered in between."""
        return [took for at, _, took in self.answers
                if at <= until and at - took >= since]

    def back(self, since):
        """Seconds until the first success after that."""
        def found():
            return next((at for at, status, took in self.answers[-20000:]
                         if status == 200 and at - took >= since), None)
        return eventually(found, "a session can be used again", 60) - since


def connects(node):
    return sum(worker["redis_connects"] for worker in Admin(node).workers())


# ---- the faults: begin, and end, after which Redis serves ----

def dead(redis, _):
    redis.kill()

    def end():
        redis.start().wait_ready()
    return end


def stopped(redis, _):
    redis.pause()
    return redis.resume


def oom(redis, _):
    redis.cli("CONFIG", "SET", "maxmemory", "1")
    return lambda: redis.cli("CONFIG", "SET", "maxmemory", "0")


def readonly(redis, _):
    redis.cli("REPLICAOF", "127.0.0.1", "1")
    return lambda: redis.cli("REPLICAOF", "NO", "ONE")


def saying(line):
    def begin(_, proxy):
        proxy.line = line
        proxy.cut(then="say")
        return lambda: proxy.cut(then="pass")
    return begin


def slow(_, proxy):
    proxy.seconds, proxy.mode = 0.4, "delay"
    return lambda: setattr(proxy, "mode", "pass")


FAULTS = {
    "dead": dead, "stopped": stopped, "-OOM": oom, "-READONLY": readonly,
    "-LOADING": saying(b"-LOADING Redis is loading the dataset in memory\r\n"),
    "garbage": saying(b"\x7f\x00garbage\r\n"), "slow": slow,
}


class Found:
    """What was seen of one kind of fault, over its rounds."""

    def __init__(self):
        self.calm, self.meanwhile, self.sessions = [], [], []
        self.back, self.connects, self.again = 0.0, 0.0, 0

    def round(self, node, probe, watch, begin, seconds):
        self.calm += probe.window(seconds)
        before = connects(node)
        began = time.monotonic()
        end = begin()
        self.meanwhile += probe.window(seconds)
        self.sessions += watch.took(began, time.monotonic())
        lasted = time.monotonic() - began
        tried = connects(node) - before
        self.connects = max(self.connects, tried / WORKERS / lasted)
        end()
        ended = time.monotonic()
        self.back = max(self.back, watch.back(ended))
        # Those who waited must not all come at once.
        probe.window(1)
        self.again = max(self.again, connects(node) - before - tried)


def p99_ms(values):
    return percentile(values, 0.99) * 1000


def rows(name, found, seconds):
    calm, meanwhile = p99_ms(found.calm), p99_ms(found.meanwhile)
    most = max(found.sessions, default=0) * 1000
    # Backoff: a second with the first few attempts, then at most one each
    # 400 ms in the mean.
    limit = 4 + 8 / seconds
    return [
        Row(f"Redis {name}: p99 of a route without a session",
            f"{meanwhile:.2f} ms, {meanwhile / calm:.2f} times", "<= 1.5 times",
            meanwhile <= 1.5 * calm, f"alive {calm:.2f} ms", exact=False),
        Row(f"Redis {name}: a route with a session ends",
            f"p99 {p99_ms(found.sessions):.0f}, most {most:.0f} ms "
            f"({len(found.sessions)})", "p99 <= 250 ms",
            p99_ms(found.sessions) <= 250 and bool(found.sessions),
            exact=False),
        Row(f"Redis {name}: sessions are back after",
            f"{found.back * 1000:.0f} ms", "<= 1 s", found.back <= 1,
            exact=False),
        Row(f"Redis {name}: connects a second and worker; when it is back",
            f"{found.connects:.1f}; {found.again}",
            f"<= {limit:.1f}; <= {4 * WORKERS}",
            found.connects <= limit and found.again <= 4 * WORKERS),
    ]


def check(node, watch, out):
    restarts = Admin(node).status()["worker_restarts"]
    ledger = watch.clients.ledger
    out.append(Row(
        "Redis in trouble: crashes; requests without their answer",
        f"{restarts}; {ledger.failed()} of {ledger.count['ok']}", "0; 0",
        restarts == 0 and ledger.failed() == 0,
        note=f"{ledger.text()} {ledger.wrong[:5]}"))


def settings(url):
    return {"session.url": url, **SETTINGS}


def through_proxy(seconds, rounds, out):
    with RedisServer(appendonly="yes") as redis, \
            Proxy(("127.0.0.1", redis.port)) as proxy, \
            Node(APP, workers=WORKERS, settings=settings(
                f"redis://127.0.0.1:{proxy.port}")) as node, \
            Probe(node.address, "/plain") as probe, Watch(node) as watch:
        for name, fault in FAULTS.items():
            found = Found()
            for _ in range(rounds):
                found.round(node, probe, watch,
                            lambda fault=fault: fault(redis, proxy), seconds)
            out += rows(name, found, seconds)
        check(node, watch, out)


def frozen(seconds, out):
    """As far as one gets without root: nothing comes through, and connections
    are still made."""
    with RedisServer() as redis, Proxy(("127.0.0.1", redis.port)) as proxy, \
            Node(APP, workers=WORKERS, settings=settings(
                f"redis://127.0.0.1:{proxy.port}")) as node:
        def begin():
            proxy.mode = "freeze"
            return lambda: proxy.cut(then="pass")
        look("frozen", node, begin, seconds, out)


def partitioned(seconds, out):
    """A node in a namespace of its own, and the cable to Redis pulled."""
    with contextlib.ExitStack() as stack:
        home = pathlib.Path(stack.enter_context(
            tempfile.TemporaryDirectory(prefix="moon-")))
        number = 20 + os.getpid() % 200
        place = netns.Place(number, stack)
        redis = stack.enter_context(RedisServer(
            config=["protected-mode no", "bind * -::*"]))
        node = stack.enter_context(Node(
            write_app(home / "app", APP), workers=WORKERS,
            binary=place.program(home), listen=f"10.77.{number}.2:8080",
            settings=settings(f"redis://10.78.{number}.1:{redis.port}")))

        def begin():
            place.pull(78)
            return lambda: place.plug(78)
        look("partitioned", node, begin, seconds, out)


def look(name, node, begin, seconds, out):
    with Probe(node.address, "/plain") as probe, Watch(node) as watch:
        found = Found()
        found.round(node, probe, watch, begin, seconds)
        out += rows(f"{name} for {seconds:g} s", found, seconds)
        check(node, watch, out)


def run(options):
    out = []
    through_proxy(options.pick(5, 0.7), options.pick(3, 1), out)
    where = partitioned if netns.possible() else frozen
    where(options.length(30, 2), out)
    return out
