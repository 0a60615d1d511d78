"""Three nodes with addresses of their own, and cables that are pulled.

Each lives in a network namespace with two cables: one to nginx, one to Redis.
Needs root, and `ip` (iproute2).
"""

import contextlib
import os
import pathlib
import tempfile
import time

import pytest

from support import netns, nginx as front
from support.admin import Admin
from support.client import Client
from support.node import Node, eventually, write_app
from support.servers import RedisServer
from support.traffic import SITE, Traffic

NAMES = ("n1", "n2", "n3")
RATE, BURST = 30, 30
APP = SITE + f"""
local limit = moonshine.limit.token_bucket {{
    rate = {RATE}, burst = {BURST}, key = "all", scope = "cluster",
    name = "shared", on_store_error = "local" }}
app:get("/limited", limit, function() return "passed" end)
"""


pytestmark = pytest.mark.skipif(
    not (netns.possible() and front.available()),
    reason="needs root, network namespaces and nginx")


class Site:
    def __init__(self, home, stack):
        self.seen = home / "seen"
        self.seen.touch()
        app = write_app(home / "app", APP)
        self.redis = stack.enter_context(RedisServer(
            config=["protected-mode no", "bind * -::*"]))
        self.places = [netns.Place(i, stack) for i in (1, 2, 3)]
        self.nodes = [stack.enter_context(Node(
            app, name=name, binary=place.program(home),
            listen=f"10.77.{place.number}.2:8080",
            env={"SEEN": str(self.seen)},
            settings={
                "redis.url":
                    f"redis://10.78.{place.number}.1:{self.redis.port}",
                "trusted_proxies": f"10.77.{place.number}.1"}))
            for name, place in zip(NAMES, self.places)]
        self.nginx = stack.enter_context(front.Nginx(
            [node.listen for node in self.nodes]))


@pytest.fixture(name="site")
def fixture_site():
    with tempfile.TemporaryDirectory(prefix="moon-") as home, \
            contextlib.ExitStack() as stack:
        yield Site(pathlib.Path(home), stack)


def passed(node, seconds):
    """How many of as many requests as fit into that time a node lets pass."""
    count, until = 0, time.monotonic() + seconds
    with Client(node.address) as client:
        while time.monotonic() < until:
            count += client.get("/limited").status == 200
    return count


def test_a_node_without_redis(site):
    """It holds its share of the limits, and says so to who needs a session; no
    session is lost."""
    cut, place = site.nodes[0], site.places[0]
    eventually(lambda: "\nmoonshine_nodes 3\n" in
               Admin(cut).ask("GET", "/-/metrics").text, "it knows of three")
    with Traffic(site.nginx.address, site.seen) as traffic:
        traffic.wait(300)
        assert not traffic.failures
        place.pull(78)
        eventually(lambda: cut.get("/limited").status == 429 or None,
                   "its bucket is empty", 30)
        began = time.monotonic()
        count = passed(cut, 3)
        seconds = time.monotonic() - began
        assert 0 < count <= RATE * seconds / 3 + BURST / 3 + 1
        assert cut.get("/").status == 200
        answer = cut.get("/count", {"Cookie": "id=" + "A" * 43})
        assert answer.status == 503 and answer.header("Retry-After")
        place.plug(78)
        eventually(lambda: cut.get(
            "/count", {"Cookie": "id=" + "A" * 43}).status == 200,
            "it has sessions again", 30)
        failed = len(traffic.failures)
        traffic.wait(600)
    # Only those that it could not serve, and nobody's count was wrong.
    assert len(traffic.failures) == failed
    assert all(text.startswith("count: <Response 503")
               for text in traffic.failures), traffic.failures[:3]
    assert set(traffic.nodes) == set(NAMES)
    twice, never = traffic.twice()
    assert not twice and not never


def test_a_node_that_nginx_does_not_reach(site):
    place = site.places[1]
    with Traffic(site.nginx.address, site.seen) as traffic:
        traffic.wait(300)
        place.pull(77)
        others = sum(traffic.nodes[name] for name in ("n1", "n3"))
        eventually(lambda: sum(traffic.nodes[name] for name in ("n1", "n3")) >
                   others + 100, "the others serve", 40)
        place.plug(77)
        served = traffic.nodes["n2"]
        eventually(lambda: traffic.nodes["n2"] > served, "it is back", 60)
    # What was under way on its connections when they went dead.
    assert len(traffic.failures) <= 12, traffic.failures
    assert not any("instead of" in text for text in traffic.failures)
    assert not traffic.twice()[0]
