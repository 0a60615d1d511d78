"""How a real nginx with our configuration spreads requests over nodes."""

import collections
import threading

import pytest

from support.client import Client
from support.nginx import Nginx, available
from support.node import Node

pytestmark = pytest.mark.skipif(not available(), reason="nginx is missing")

APP = '''
app:get("/who", function() return moonshine.node() end)
app:get("/work", function()
    if moonshine.node() == "a" then moonshine.sleep(0.4) end
    return moonshine.node()
end)
'''


# nginx holds idle connections for two thirds of it.
QUICK = {"drain_idle": "1500ms"}
TOLD = ["--set", "drain_idle=1500ms"]


@pytest.fixture(scope="module")
def nodes():
    running = [Node(APP, name=name) for name in "abc"]
    yield running
    for node in running:
        node.stop()


def addresses(nodes, weights=("", "", "")):
    return [node.listen + weight for node, weight in zip(nodes, weights)]


def ask(nginx, count, target="/who", clients=1):
    """How many answers came of which node, with so many clients at once."""
    counts, errors = collections.Counter(), []
    left = iter(range(count))
    lock = threading.Lock()

    def work():
        try:
            with Client(nginx.address) as client:
                while True:
                    with lock:
                        if next(left, None) is None:
                            return
                    answer = client.get(target)
                    assert answer.status == 200, answer
                    with lock:
                        counts[answer.text] += 1
        except BaseException as error:  # shown by the caller
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert sum(counts.values()) == count
    return counts


@pytest.mark.parametrize("balance", ["round_robin", "least_conn"])
def test_weights_are_kept(nodes, balance):
    with Nginx(addresses(nodes, ("*3", "*2", "")), "--balance",
               balance) as nginx:
        counts = ask(nginx, 600)
    for name, share in (("a", 300), ("b", 200), ("c", 100)):
        assert abs(counts[name] - share) <= 30, counts


@pytest.mark.parametrize("balance", ["least_conn", "random"])
def test_a_slow_node_gets_less(nodes, balance):
    with Nginx(addresses(nodes), "--balance", balance) as nginx:
        counts = ask(nginx, 400, "/work", clients=9)
    # Round robin would give it a third.
    assert counts["a"] < 100, counts
    assert counts["b"] > 80 and counts["c"] > 80, counts


def from_address(nginx, address):
    with Client(nginx.address, source=address) as client:
        return client.get("/who").text


def test_ip_hash_sticks_to_networks(nodes):
    clients = [f"127.{i}.{j}.1" for i in range(1, 7) for j in range(1, 7)]
    with Nginx(addresses(nodes), "--balance", "ip_hash") as nginx:
        first = {address: from_address(nginx, address) for address in clients}
        assert set(first.values()) == {"a", "b", "c"}
        for address in clients:
            assert from_address(nginx, address) == first[address]
            beside = address.rpartition(".")[0] + ".77"
            assert from_address(nginx, beside) == first[address]


def keys(nginx, count, key):
    with Client(nginx.address) as client:
        found = {}
        for i in range(count):
            target, headers = key(i)
            answer = client.get(target, headers)
            assert answer.status == 200
            found[i] = answer.text
        return found


KEYS = {
    "uri": lambda i: (f"/who?q={i}", {}),
    "query:user": lambda i: (f"/who?x={i % 2}&user={i}", {}),
    "header:X-User-Id": lambda i: ("/who", {"X-User-Id": f"user-{i}"}),
    "cookie:sid": lambda i: ("/who", {"Cookie": f"a=b; sid=s{i}"}),
    "host": lambda i: ("/who", {"Host": f"h{i}.example"}),
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_sticks_to_its_node(nodes, key):
    with Nginx(addresses(nodes), "--balance", f"hash:{key}") as nginx:
        first = keys(nginx, 60, KEYS[key])
        assert set(first.values()) == {"a", "b", "c"}
        assert keys(nginx, 60, KEYS[key]) == first


def test_a_node_that_leaves_takes_only_its_keys(nodes, start):
    leaving = start(APP, name="gone", settings=QUICK)
    with Nginx(addresses(nodes) + [leaving.listen], "--balance",
               "hash:query:user", *TOLD) as nginx:
        before = keys(nginx, 200, KEYS["query:user"])
        assert set(before.values()) == {"a", "b", "c", "gone"}
        leaving.stop()
        after = keys(nginx, 200, KEYS["query:user"])
        for key, node in before.items():
            if node == "gone":
                assert after[key] in "abc"
            else:
                assert after[key] == node
    # The same without it: what nginx does when it is taken out.
    with Nginx(addresses(nodes), "--balance", "hash:query:user") as nginx:
        shrunk = keys(nginx, 200, KEYS["query:user"])
        moved = [key for key, node in before.items()
                 if node != "gone" and shrunk[key] != node]
        assert not moved


def test_an_ip_hash_client_moves_only_while_its_node_is_away(nodes, start):
    leaving = start(APP, name="gone", settings=QUICK)
    clients = [f"127.{i}.9.1" for i in range(1, 25)]
    with Nginx(addresses(nodes) + [leaving.listen], "--balance",
               "ip_hash", *TOLD) as nginx:
        before = {address: from_address(nginx, address) for address in clients}
        assert "gone" in before.values()
        leaving.stop()
        for address, node in before.items():
            now = from_address(nginx, address)
            assert now in "abc" if node == "gone" else now == node


def connections(port):
    """Ends of connections to that port, open or closed not long ago."""
    found = 0
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in list(table)[1:]:
            _, local, remote, state = line.split()[:4]
            if state != "0A" and f"{port:04X}" in (local[-4:], remote[-4:]):
                found += 1
    return found


@pytest.mark.parametrize("kept", [True, False])
def test_connections_to_nodes_are_kept(start, kept):
    def without(text):
        return text.replace("keepalive 32;", "").replace(
            "    keepalive_timeout", "    #")

    node = start('app:get("/", function() return "x" end)')
    with Nginx([node.listen], edit=None if kept else without) as nginx:
        before = connections(node.address[1])
        with Client(nginx.address) as client:
            for _ in range(100):
                assert client.get("/").status == 200
        more = connections(node.address[1]) - before
    # Without our configuration it is one for each request.
    assert more <= 8 if kept else more >= 80


def test_a_node_that_drains_costs_nothing(nodes, start):
    leaving = start(APP, name="leaving", settings=QUICK)
    with Nginx(addresses(nodes) + [leaving.listen], *TOLD) as nginx:
        ask(nginx, 40)
        with Client(nginx.address) as client:
            leaving.signal(15)
            for _ in range(200):
                answer = client.request("POST", "/nowhere", body="x")
                assert answer.status == 404, answer
            assert leaving.process.wait(30) == 0
            for _ in range(50):
                assert client.request("POST", "/nowhere",
                                      body="x").status == 404
