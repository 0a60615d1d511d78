"""Rate limits that nodes hold together in Redis: exact over nodes, and what
becomes of them, and of requests that wait, when Redis gives no answer."""

import contextlib
import os
import signal
import threading
import time

import pytest

from support.admin import Admin
from support.client import Client
from support.node import Node, command, eventually, write_app
from support.servers import Cluster, RedisServer

APP = r'''
local limit = moonshine.limit
local counted = 0
local function handler() counted = counted + 1 return "passed" end
local function of(kind, options)
    options.scope, options.key = "cluster", options.key or "all"
    return limit[kind](options)
end
app:get("/counted", function() return tostring(counted) end)
app:get("/token", of("token_bucket", { name = "token", rate = 1, per = "1h", burst = 6 }), handler)
app:post("/token", of("token_bucket", { name = "post", rate = 1, per = "1h", burst = 6 }), handler)
app:get("/window", of("sliding_window", { name = "window", rate = 6, per = "1h" }), handler)
app:get("/leaky", of("leaky_bucket", { name = "leaky", rate = 10, burst = 2 }), handler)
app:get("/behind", function(c, proceed) return proceed(c) end,
    of("token_bucket", { name = "behind", rate = 1, per = "1h", burst = 6 }), handler)
app:get("/function", of("token_bucket", { name = "function", rate = 1, per = "1h", burst = 6,
    key = function(c) return c:query("k") end }), handler)
app:get("/long", of("token_bucket", { name = "long", rate = 1, per = "1h", burst = 1,
    key = "header:X-Key" }), handler)
app:get("/open", of("token_bucket", { name = "open", rate = 1, per = "1h", burst = 6,
    on_store_error = "open" }), handler)
app:get("/closed", of("token_bucket", { name = "closed", rate = 1, per = "1h", burst = 6,
    on_store_error = "closed" }), handler)
app:get("/dry", of("token_bucket", { name = "dry", rate = 1, per = "1h", burst = 1,
    dry_run = true }), handler)
app:get("/mixed", limit.token_bucket { name = "of node", rate = 1, per = "1h", burst = 100,
    key = "all" }, of("token_bucket", { name = "wide", rate = 1, per = "1h", burst = 100 }),
    of("token_bucket", { name = "tight", rate = 1, per = "1h", burst = 2 }), handler)
local wide = of("token_bucket", { name = "wide 2", rate = 1, per = "1h", burst = 100 })
app:get("/mixed-node", wide, limit.token_bucket { name = "tight of node", rate = 1, per = "1h",
    burst = 2, key = "all" }, handler)
app:get("/wide-2", function() local _, left = wide:peek("*") return tostring(left) end)
app:get("/hurry", of("token_bucket", { name = "hurry", rate = 1, per = "1h", burst = 6 }),
    handler, { timeout = "100ms" })
local busy = of("concurrency", { name = "busy", max = 3, lease = "2s" })
app:get("/busy", busy, function(c)
    moonshine.sleep(tonumber(c:query("s") or "0"))
    return "passed"
end)
app:get("/free", function() local _, left = busy:peek("*") return tostring(left) end)
local own = of("token_bucket", { name = "own", rate = 1, per = "1h", burst = 3 })
app:get("/take", function(c) return { own:take("k", tonumber(c:query("cost"))) } end)
app:get("/peek", function() return { own:peek("k") } end)
app:get("/reset", function() own:reset("k") return "done" end)
app:get("/detached", function()
    local _, allowed, left = moonshine.spawn(function() return own:take("k") end):wait()
    return { allowed, left }
end)
app:get("/callback", function()
    local ok, message = pcall(string.gsub, "x", "x", function() own:take("k") end)
    return message
end)
'''


@pytest.fixture
def redis():
    with RedisServer() as server:
        yield server


@pytest.fixture
def nodes(redis):
    """nodes(COUNT): nodes that share a Redis."""
    with contextlib.ExitStack() as stack:
        def begin(count, workers=1, app=APP, settings=None):
            return [stack.enter_context(running(
                app, f"node-{i}", redis.url, workers, settings))
                for i in range(count)]
        yield begin


@contextlib.contextmanager
def running(app, name, url, workers=1, settings=None):
    node = Node(app, name=name, workers=workers,
                settings={"redis.url": url, "limits.timeout": "5s",
                          **(settings or {})})
    try:
        yield node
    except BaseException:
        print(node.log())
        node.kill()
        raise
    if Node.running.count(node):
        node.stop()


def passed(nodes_, target, each, headers=None):
    """How many of so many requests to each node, in turn, pass."""
    count = 0
    for _ in range(each):
        for node in nodes_:
            answer = node.get(target, headers)
            assert answer.status in (200, 429), answer.text
            count += answer.status == 200
    return count


def metric(node, name, labels=""):
    for line in Admin(node).ask("GET", "/-/metrics").text.splitlines():
        if line.startswith(f"moonshine_{name}{labels} "):
            return float(line.split()[1])
    return None


def know_each_other(nodes_):
    for node in nodes_:
        eventually(lambda node=node: metric(node, "nodes") == len(nodes_),
                   "the nodes know each other")


def begin(client, target, method="GET", rest=""):
    client.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{rest}\r\n"
                .encode())


def waits(node, target):
    """A request that waits for Redis."""
    eventually(lambda: any(r["path"] == target and r["waits_on"] == "limit"
                           for r in Admin(node).requests()), "it waits")


# ---- together ----

@pytest.mark.parametrize("target", [
    "/token", "/window", "/behind", "/function?k=a"])
def test_one_quota_for_all_nodes(nodes, target):
    three = nodes(3)
    assert passed(three, target, 4) == 6
    answer = three[0].get(target)
    assert answer.status == 429
    assert int(answer.header("Retry-After")) > 60
    assert ";r=0;t=" in answer.header("RateLimit")


def test_what_the_answers_say(nodes):
    one, two = nodes(2)
    assert one.get("/token").header("RateLimit") == '"token";r=5;t=3600'
    assert two.get("/token").header("RateLimit") == '"token";r=4;t=7200'
    assert two.get("/token").header("RateLimit-Policy") == '"token";q=1;w=3600'


def test_keys_and_bodies(nodes):
    pair = nodes(2)
    assert passed(pair, "/function?k=a", 4) == 6
    assert passed(pair, "/function?k=b", 4) == 6
    assert passed(pair, "/function", 4) == 8  # nil: not limited
    for key in ("short", "x" * 3000, "x" * 2999 + "y"):
        assert passed(pair, "/long", 2, {"X-Key": key}) == 1
    with Client(pair[0].address) as client:
        answers = [client.request("POST", "/token", None, b"x" * 100000).status
                   for _ in range(7)]
    assert answers == [200] * 6 + [429]


def test_a_leaky_bucket_delays_over_nodes(nodes):
    pair = nodes(2)
    begun, times = time.monotonic(), []

    def ask(node):
        assert node.get("/leaky").status == 200
        times.append(time.monotonic() - begun)

    threads = [threading.Thread(target=ask, args=(pair[i % 2],))
               for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    assert len(times) == 3 and times[1] >= 0.1 and times[2] >= 0.2


def test_a_refused_request_takes_from_none(nodes):
    pair = nodes(2)
    assert passed(pair, "/mixed", 3) == 2
    for node in pair:
        assert node.get("/mixed").header("RateLimit").startswith(
            '"tight";r=0')
    assert passed(pair, "/mixed-node", 4) == 4  # 2 on each node
    eventually(lambda: pair[0].get("/wide-2").text == "96",
               "what the node refused was not taken from the cluster")


def test_refusals_are_counted(nodes):
    pair = nodes(2)
    for target, name in (("/token", "token"), ("/behind", "behind")):
        assert passed(pair, target, 4) == 6
        assert sum(metric(node, "limit_refusals_total", f'{{limit="{name}"}}')
                   for node in pair) == 2


def test_dry_run_only_tells(nodes):
    one, two = nodes(2)
    assert passed([one, two], "/dry", 2) == 4
    two.wait_log('limit "dry" would refuse')


def test_concurrency_over_nodes(nodes):
    pair = nodes(2)
    with contextlib.ExitStack() as stack:
        clients = []
        for node in (pair[0], pair[0], pair[1]):
            client = stack.enter_context(Client(node.address))
            begin(client, "/busy?s=0.5")
            clients.append(client)
        eventually(lambda: pair[0].get("/free").text == "0", "all are taken")
        assert passed(pair, "/busy", 2) == 0
        for client in clients:
            assert client.read_response().status == 200
    for node in pair:
        eventually(lambda node=node: node.get("/free").text == "3",
                   "all are free")


def test_leases_of_a_dead_node_end_with_their_time(nodes):
    one, two = nodes(2)
    with Client(one.address) as client:
        begin(client, "/busy?s=1000")
        eventually(lambda: two.get("/free").text == "2", "one is taken")
        one.kill()
        eventually(lambda: two.get("/free").text == "3", "its time is over")


def test_from_handlers_and_tasks(nodes):
    one, two = nodes(2)
    assert one.get("/take").json()[:2] == [True, 2]
    assert two.get("/peek").json()[:2] == [True, 2]
    assert two.get("/take?cost=2").json()[:2] == [True, 0]
    allowed, left, seconds = one.get("/take").json()
    assert (allowed, left) == (False, 0) and seconds > 60
    one.get("/reset")
    eventually(lambda: one.get("/peek").json()[:2] == [True, 3], "reset")
    assert one.get("/detached").json() == [True, 2]
    assert "cannot wait here" in one.get("/callback").text


def test_a_redis_cluster_behind_it():
    with Cluster() as cluster:
        for target in ("/token", "/window"):
            with running(APP, "a", cluster.url()) as one, \
                    running(APP, "b", cluster.url()) as two:
                assert passed([one, two], target, 4) == 6
                know_each_other([one, two])


# ---- exactly ----

RATE, BURST, SECONDS = 150, 60, 3


def hammer(addresses, connections, target):
    """Asks without a pause. How many passed; the seconds from before the first
    request to the last answer; and of these for how many the limit was certainly
    in use, however slow this machine is: from the first answer to the last
    refusal, less the time in which a bucket that nobody asked was full."""
    lock = threading.Lock()
    seen = {"passed": 0, "first": None, "refused": []}
    begun = time.monotonic()

    def ask(address):
        with Client(address) as client:
            while time.monotonic() - begun < SECONDS:
                sent = time.monotonic()
                status = client.get(target).status
                now = time.monotonic()
                with lock:
                    seen["first"] = seen["first"] or now
                    if status == 200:
                        seen["passed"] += 1
                    else:
                        assert status == 429
                        seen["refused"].append((sent, now))

    threads = [threading.Thread(target=ask,
                                args=(addresses[i % len(addresses)],))
               for i in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    span = time.monotonic() - begun
    refused = sorted(seen["refused"])
    full = sum(max(0.0, later[1] - sooner[0] - BURST / RATE)
               for sooner, later in zip(refused, refused[1:]))
    return seen["passed"], span, refused[-1][0] - seen["first"] - full


EXACT = '''
app:get("/", moonshine.limit.token_bucket { name = "exact", rate = %d, burst = %d,
    key = "all", scope = "%s" }, function() return "" end)
'''


def check_exact(count, span, saturated, share=1.0):
    assert count <= share * (BURST + RATE * span) + 1
    assert count >= 0.99 * share * (BURST + RATE * saturated) - 1


def test_exact_over_workers(start):
    node = start(EXACT % (RATE, BURST, "node"), workers=4)
    check_exact(*hammer([node.address], 64, "/"))


def test_exact_over_nodes(nodes):
    three = nodes(3, workers=2, app=EXACT % (RATE, BURST, "cluster"))
    check_exact(*hammer([node.address for node in three], 24, "/"))


def test_each_node_gives_its_share(nodes, redis):
    three = nodes(3, app=EXACT % (RATE, BURST, "cluster"))
    know_each_other(three)
    redis.kill()
    for node in three:
        eventually(lambda node=node: node.get("/") and
                   metric(node, "limits_fallback") == 1, "it noticed")
    # All of a share is there again.
    time.sleep(1.1 * BURST / RATE)
    for node in three[:2]:
        check_exact(*hammer([node.address], 8, "/"), share=1 / 3)


# ---- without Redis ----

def test_fall_back_and_return(nodes, redis):
    pair = nodes(2)
    know_each_other(pair)
    redis.kill()
    for node in pair:
        assert passed([node], "/token", 5) == 3  # half of 6
        assert passed([node], "/window", 5) == 3
        assert passed([node], "/function?k=a", 5) == 3
        node.wait_log("limits: no answer from redis://")
        assert metric(node, "limits_fallback") == 1
        assert metric(node, "limits_unanswered_total") >= 9
        assert metric(node, "nodes") == 2  # the last that is known
        assert passed([node], "/open", 7) == 6  # as the node alone would
        assert node.get("/closed").status == 503
        assert node.get("/closed").header("Retry-After") == "1"
        log = node.log()
        assert log.count("limits: no answer") == 1
    redis.restart()
    for node in pair:
        eventually(lambda node=node: metric(node, "limits_fallback") == 0,
                   "it is back")
        node.wait_log("limits: Redis answers again")
        assert node.log().count("limits: no answer") == 1


def test_errors_of_redis_count_as_no_answer(nodes, redis):
    node, = nodes(1)
    redis.cli("SADD", "moon:l:{token:*}", "not a bucket")
    assert passed([node], "/token", 7) == 6
    node.wait_log("WRONGTYPE")


def test_the_deadline_holds(nodes, redis):
    node, = nodes(1, settings={"limits.timeout": "20ms"})
    assert node.get("/token").status == 200
    redis.pause()
    try:
        assert passed([node], "/token", 7) == 5
        node.wait_log("limits: no answer")
    finally:
        redis.resume()


def test_without_a_url_the_node_holds_it_alone(start):
    node = start(APP)
    assert passed([node], "/token", 7) == 6
    node.wait_log("neither limits.url nor redis.url is set")
    assert metric(node, "limits_fallback") == 0


# ---- while it waits ----

@pytest.fixture
def silent(nodes, redis):
    """A node whose Redis says nothing for the time of the test."""
    node, = nodes(1)
    assert node.get("/counted").text == "0"
    redis.pause()
    try:
        yield node
    finally:
        redis.resume()


@pytest.mark.parametrize("target", ["/token", "/behind", "/take"])
def test_a_client_that_leaves_while_waiting(silent, redis, target):
    with Client(silent.address) as client:
        begin(client, target)
        waits(silent, target)
    eventually(lambda: not [r for r in Admin(silent).requests()
                            if r["path"] == target], "it is gone")
    redis.resume()
    assert silent.get("/token").status == 200  # the link goes on
    assert silent.get("/counted").text == "1"


def test_a_post_that_leaves_while_waiting(silent, redis):
    with Client(silent.address) as client:
        begin(client, "/token", "POST", "Content-Length: 1\r\n")
        client.send(b"x")
        waits(silent, "/token")
    eventually(lambda: not Admin(silent).requests(), "it is gone")
    redis.resume()
    assert silent.get("/counted").text == "0"


def test_concurrency_of_one_that_leaves_comes_back(silent, redis):
    with Client(silent.address) as client:
        begin(client, "/busy")
        waits(silent, "/busy")
    eventually(lambda: not Admin(silent).requests(), "it is gone")
    redis.resume()
    eventually(lambda: silent.get("/free").text == "3", "all are free")


def test_a_timeout_while_waiting(silent):
    with Client(silent.address) as client:
        answer = client.get("/hurry")
    assert answer.status == 503
    assert "too long" in answer.text


def test_a_reload_while_waiting(silent, redis):
    with Client(silent.address) as client, Client(silent.address) as other:
        begin(client, "/token")
        begin(other, "/behind")
        waits(silent, "/token")
        waits(silent, "/behind")
        silent.rewrite(APP.replace("burst = 6", "burst = 7"))
        assert silent.command("reload").returncode == 0
        redis.resume()
        # On the code that it began with, whose VM closes only then.
        assert client.read_response().header("RateLimit") == \
            '"token";r=5;t=3600'
        assert other.read_response().status == 200
    assert silent.get("/token").status == 200


def test_a_stop_while_waiting(silent, redis):
    with Client(silent.address) as client:
        begin(client, "/token")
        waits(silent, "/token")
        silent.signal(signal.SIGTERM)
        redis.resume()
        assert client.read_response().status == 200


def test_a_stop_that_cuts_while_waiting(nodes, redis):
    node, = nodes(1, settings={"limits.timeout": "30s",
                               "drain_timeout": "100ms"})
    redis.pause()
    try:
        with Client(node.address) as client:
            begin(client, "/token")
            waits(node, "/token")
            node.stop()
    finally:
        redis.resume()


# ---- the list of nodes ----

def test_the_list_of_nodes(nodes, redis):
    pair = nodes(2, workers=2)
    know_each_other(pair)
    assert sorted(redis.cli("ZRANGE", "moon:nodes", 0, -1).split()) == \
        ["node-0", "node-1"]
    words = redis.cli("HGETALL", "moon:node:node-1").splitlines()
    entry = dict(zip(words[::2], words[1::2]))
    assert entry["admin"] == f"unix:{pair[1].run_dir}/node-1/admin.sock"
    assert int(entry["pid"]) == pair[1].pid
    assert (entry["generation"], entry["workers"]) == ("1", "2")
    assert entry["version"] and entry["host"]
    assert 0 < int(redis.cli("PTTL", "moon:node:node-1")) <= 10000
    pair[1].rewrite(APP + "-- changed")
    assert pair[1].command("reload").returncode == 0
    eventually(lambda: redis.cli("HGET", "moon:node:node-1", "generation")
               == "2", "the list knows")
    # A node that stops leaves it at once.
    pair[1].stop()
    assert redis.cli("ZRANGE", "moon:nodes", 0, -1) == "node-0"
    assert redis.cli("EXISTS", "moon:node:node-1") == "0"
    eventually(lambda: metric(pair[0], "nodes") == 1, "it is alone")


def test_another_worker_speaks_when_one_dies(nodes, redis):
    node, = nodes(1, workers=2)
    know_each_other([node])
    for pid in node.children():
        redis.cli("DEL", "moon:nodes", "moon:node:node-0")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: redis.cli("HGET", "moon:node:node-0", "pid") ==
                   str(node.pid), "somebody speaks")


# ---- wrong use ----

@pytest.mark.parametrize("source, words", [
    ("scope = 'world'", 'scope must be "node" or "cluster"'),
    ("scope = 'cluster', on_store_error = 'maybe'",
     'on_store_error must be "local", "open" or "closed"'),
    ("on_store_error = 'open'", 'on_store_error is for scope = "cluster"'),
])
def test_wrong_use_does_not_load(tmp_path, source, words):
    done = command("check", write_app(tmp_path, (
        "local limit = moonshine.limit\n"
        'app:get("/", limit.token_bucket { rate = 1, %s }, function() end)'
        % source)))
    assert done.returncode == 1
    assert words in done.stderr
