"""moonshine.redis when things go wrong: a Redis that is gone or silent, requests
that end while they wait, code that is replaced."""

import signal
import threading

import pytest

from support.client import Client
from support.faults import Proxy
from support.node import eventually
from support.servers import RedisServer

APP = r"""
local json = moonshine.json
local r = moonshine.redis()
app:get("/plain", function() return "plain" end)
app:get("/get", function()
    local value, why, code = r:get("k")
    if why then return why, code end
    return value or "none"
end)
app:get("/slow", function() return tostring(r:eval(
    "local t = redis.call('TIME') repeat local n = redis.call('TIME') "
    .. "until (n[1] - t[1]) * 1e6 + n[2] - t[2] > 300000 return 1", 0)) end)
app:get("/wait", function() return tostring(r:get("k")) end, { timeout = "150ms" })
app:get("/many", function()
    local parts = {}
    for i = 1, 20 do parts[i] = function() return r:get("k") or "none" end end
    return { moonshine.all(unpack(parts)) }
end)
app:get("/generation", function() return tostring(moonshine.generation()) end)
"""


@pytest.fixture
def redis():
    with RedisServer() as server:
        server.cli("SET", "k", "v")
        yield server


def ids(redis, name="test"):
    return sorted(
        fields["id"] for fields in
        (dict(word.partition("=")[::2] for word in line.split())
         for line in redis.cli("CLIENT", "LIST").splitlines())
        if fields["name"] == name)


def works(node):
    return node.get("/get").text == "v"


# ---- a Redis that is gone ----

@pytest.mark.parametrize("how", ["killed", "stopped", "paused"])
def test_what_needs_no_redis_goes_on(start, redis, how):
    node = start(APP, settings={"redis.url": redis.url}, workers=2)
    eventually(lambda: works(node), "it works")
    if how == "killed":
        redis.kill()
    elif how == "stopped":
        redis.pause()
    else:
        redis.cli("CLIENT", "PAUSE", 3000, "ALL")
    waiting = []
    for _ in range(10):
        client = node.connect()
        client.send(b"GET /get HTTP/1.1\r\nHost: a\r\n\r\n")
        waiting.append(client)
    for _ in range(20):
        assert node.get("/plain").text == "plain"
    for client in waiting:
        answer = client.read_response()
        assert answer.status in (503, 504), answer
        assert answer.text.startswith(redis.url + ": "), answer.text
    if how == "killed":
        redis.start().wait_ready()
        redis.cli("SET", "k", "v")
    elif how == "stopped":
        redis.resume()
    eventually(lambda: works(node), "it works again")


def test_the_reason_is_told_without_the_password(start):
    node = start(APP, settings={"redis.url": "redis://me:geheim@127.0.0.1:1/2"})
    answer = node.get("/get")
    assert answer.status == 503
    assert answer.text.startswith("redis://***@127.0.0.1:1/2: "), answer.text
    assert "connection refused" in answer.text
    assert "geheim" not in answer.text + node.log()


def test_it_never_was_there(start, redis):
    """A node starts without it, and finds it later."""
    redis.kill()
    node = start(APP, settings={"redis.url": redis.url})
    assert node.get("/get").status == 503
    redis.start().wait_ready()
    redis.cli("SET", "k", "v")
    eventually(lambda: works(node), "it works")


def test_restarted_under_load(start, redis):
    """Every answer is the right one or says that there is none."""
    node = start(APP, settings={"redis.url": redis.url}, workers=2)
    stop, wrong, counts = threading.Event(), [], {"v": 0, "failed": 0}

    def load():
        with Client(node.address) as client:
            while not stop.is_set():
                answer = client.get("/get")
                if answer.status == 200 and answer.text in ("v", "none"):
                    counts["v"] += 1
                elif answer.status in (502, 503, 504):
                    counts["failed"] += 1
                else:
                    wrong.append(answer)
                if client.get("/plain").text != "plain":
                    wrong.append("plain")

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            before = counts["v"]
            eventually(lambda: counts["v"] > before + 50, "it works")
            redis.restart()
            redis.cli("SET", "k", "v")
        before = counts["v"]
        eventually(lambda: counts["v"] > before + 50, "it works")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]


# ---- requests that end while they wait ----

def test_a_request_whose_time_is_over(start, redis):
    """Replies that come after it are for nobody."""
    with Proxy(("127.0.0.1", redis.port)) as proxy:
        node = start(APP, settings={"redis.url": f"redis://127.0.0.1:{proxy.port}",
                                    "redis.timeout": "20s"})
        eventually(lambda: works(node), "it works")
        proxy.mode, proxy.seconds = "delay", 0.4
        for _ in range(5):
            assert node.get("/wait").status == 503
        proxy.mode = "pass"
        redis.cli("SET", "k", "other")
        eventually(lambda: node.get("/get").text == "other", "it works")


def test_a_client_that_leaves(start, redis):
    with Proxy(("127.0.0.1", redis.port)) as proxy:
        node = start(APP, settings={"redis.url": f"redis://127.0.0.1:{proxy.port}",
                                    "redis.timeout": "20s"})
        eventually(lambda: works(node), "it works")
        proxy.mode = "mute"
        clients = [node.connect() for _ in range(10)]
        for number, client in enumerate(clients):
            path = b"/many" if number % 2 else b"/get"
            client.send(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: node.command("status", "--requests").stdout
                   .count("redis") >= 5, "they wait")
        for client in clients:
            client.close()
        eventually(lambda: "redis" not in node.command(
            "status", "--requests").stdout.replace("redis://", ""),
            "they are gone")
        proxy.mode = "pass"
        proxy.cut()
        eventually(lambda: works(node), "it works")


def test_code_that_is_replaced_while_it_waits(start, redis):
    """Its requests are answered; then it is freed, and the link stays."""
    node = start(APP, settings={"redis.url": redis.url, "redis.timeout": "5s"})
    assert works(node)
    before = ids(redis)
    assert len(before) == 1
    for number in range(3):
        client = node.connect()
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: "redis" in node.command(
            "status", "--requests").stdout, "it waits")
        node.rewrite(APP + f"-- {number}")
        done = node.command("reload")
        assert done.returncode == 0, done.stderr
        assert client.read_response().text == "1"
    assert node.get("/generation").text == "4"
    assert works(node)
    assert ids(redis) == before, "links survive a reload"


def test_code_that_is_ended_while_it_waits(start, redis):
    """max_generations ends the oldest, whose operation goes on."""
    with Proxy(("127.0.0.1", redis.port)) as proxy:
        node = start(APP, settings={"redis.url": f"redis://127.0.0.1:{proxy.port}",
                                    "redis.timeout": "20s",
                                    "max_generations": 2})
        eventually(lambda: works(node), "it works")
        proxy.mode = "mute"
        client = node.connect()
        client.send(b"GET /get HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: "redis" in node.command(
            "status", "--requests").stdout.replace("redis://", ""), "it waits")
        for number in range(2):
            node.rewrite(APP + f"-- {number}")
            assert node.command("reload").returncode == 0
        assert client.read_response().status == 503
        proxy.mode = "pass"
        proxy.cut()
        eventually(lambda: works(node), "it works")


@pytest.mark.parametrize("mode", ["pass", "mute"])
def test_a_worker_that_stops_while_it_waits(start, redis, mode):
    with Proxy(("127.0.0.1", redis.port)) as proxy:
        node = start(APP + r"""
            moonshine.spawn(function() r:dedicated(function(link)
                while true do link:blpop("never", 60) end
            end) end)""",
            settings={"redis.url": f"redis://127.0.0.1:{proxy.port}",
                      "redis.timeout": "20s", "drain_timeout": "1s"})
        eventually(lambda: works(node), "it works")
        eventually(lambda: "cmd=blpop" in redis.cli("CLIENT", "LIST"),
                   "the task waits")
        proxy.mode = mode
        client = node.connect()
        client.send(b"GET /get HTTP/1.1\r\nHost: a\r\n\r\n")
        if mode == "mute":
            eventually(lambda: "redis" in node.command(
                "status", "--requests").stdout.replace("redis://", ""),
                "it waits")
        node.signal(signal.SIGTERM)
        assert client.read_response().status == (200 if mode == "pass" else 503)
        node.process.wait(40)
    assert node.process.returncode == 0, node.log()[-3000:]


# ---- subscriptions ----

SUBSCRIBER = r"""
local r = moonshine.redis()
local list, handle, others = {}, nil, 0
app:on_start(function()
    handle = assert(r:subscribe({ "news", "more" }, function(message, channel)
        if message == "bad" then error("bad news") end
        if message == "long" then moonshine.sleep("50ms") end
        list[#list + 1] = channel .. ":" .. message
    end, { queue = 100 }))
    assert(r:psubscribe("odd.*", function(message, channel)
        list[#list + 1] = channel .. "=" .. message
    end))
end)
app:get("/list", function() return table.concat(list, " ") end)
app:get("/cancel", function() handle:cancel() return "done" end)
app:get("/dropped", function() return tostring(handle:dropped()) end)
app:get("/incr", function() return tostring(r:incr("n")) end)
"""


def listeners(redis, channel="news"):
    return int(redis.cli("PUBSUB", "NUMSUB", channel).split()[-1])


@pytest.fixture
def subscriber(start, redis):
    node = start(SUBSCRIBER, settings={"redis.url": redis.url})
    eventually(lambda: listeners(redis) == 1, "it listens")
    return node


def heard(node, text):
    return eventually(lambda: node.get("/list").text == text, f"it hears {text}")


def test_messages_come_in_order(redis, subscriber):
    for word in ("one", "long", "two"):
        redis.cli("PUBLISH", "news", word)
    redis.cli("PUBLISH", "more", "three")
    heard(subscriber, "news:one news:long news:two more:three")
    redis.cli("PUBLISH", "odd.ones", "four")
    heard(subscriber, "news:one news:long news:two more:three odd.ones=four")


def test_an_error_is_that_messages_alone(redis, subscriber):
    for word in ("one", "bad", "two"):
        redis.cli("PUBLISH", "news", word)
    heard(subscriber, "news:one news:two")
    subscriber.wait_log("subscription to news, more failed: .*bad news")


def test_it_returns_once_messages_come(start, redis):
    """Or says why they do not."""
    redis.cli("ACL", "SETUSER", "limited", "on", ">geheim", "+@all", "~*",
              "resetchannels", "&open")
    node = start(r"""
        local list = {}
        local r = moonshine.redis()
        app:get("/", function(c)
            local task = moonshine.spawn(function()
                local handle, why, code = r:subscribe(c:query("to"), function(m)
                    list[#list + 1] = m
                end)
                if not handle then return why .. " " .. code end
                return r:publish("open", "one")
            end)
            return tostring(select(2, task:wait("5s")))
        end)
        app:get("/list", function() return table.concat(list, " ") end)
    """, settings={"redis.url": redis.url.replace("//", "//limited:geheim@"),
                   "redis.timeout": "5s"})
    assert node.get("/?to=open").text == "1"
    heard(node, "one")
    assert node.get("/?to=closed").text.startswith(
        redis.url.replace("//", "//***@") + ": NOPERM")


def test_cancel(redis, subscriber):
    redis.cli("PUBLISH", "news", "one")
    heard(subscriber, "news:one")
    assert subscriber.get("/cancel").text == "done"
    eventually(lambda: listeners(redis) == 0, "it has left")
    assert redis.cli("PUBLISH", "news", "two") == "0"
    redis.cli("PUBLISH", "odd.x", "three")
    heard(subscriber, "news:one odd.x=three")


def test_a_broken_link_is_made_again(redis, subscriber):
    redis.cli("PUBLISH", "news", "one")
    heard(subscriber, "news:one")
    redis.restart()
    subscriber.wait_log("subscription to news and others: no messages for now")
    subscriber.wait_log("subscription to news and others: messages come again")
    redis.cli("PUBLISH", "news", "two")
    heard(subscriber, "news:one news:two")


def test_what_does_not_fit_is_counted(redis, subscriber):
    redis.cli("EVAL", "redis.call('PUBLISH', 'news', 'long') "
              "for i = 1, 500 do redis.call('PUBLISH', 'news', i) end", "0")
    subscriber.wait_log(r"subscription to news and others: messages come faster"
                        r" than .* its queue \(100\) is dropped")
    subscriber.wait_log("subscription to news and others: 4.. messages were "
                        "dropped")
    kept = len(subscriber.get("/list").text.split())
    assert kept + int(subscriber.get("/dropped").text) == 501


def test_a_reload_loses_and_repeats_nothing(start, redis):
    """Each message is counted once, by the old code or the new."""
    app = r"""
        local r = moonshine.redis()
        app:on_start(function()
            r:subscribe("jobs", function() r:incr("n") end, { queue = 100000 })
        end)
        app:get("/sent", function() return tostring(moonshine.generation()) end)
    """
    node = start(app, settings={"redis.url": redis.url, "redis.timeout": "5s"})
    eventually(lambda: listeners(redis, "jobs") == 1, "it listens")
    stop, sent = threading.Event(), []

    def publish():
        """Without a pause, so that some are under way when the code changes."""
        while not stop.is_set():
            sent.extend(redis.cli(
                "EVAL", "local t = {} for i = 1, 50 do t[i] = "
                "redis.call('PUBLISH', 'jobs', 'x') end return t", "0").split())

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for number in range(3):
            node.rewrite(app + f"-- {number}")
            done = node.command("reload")
            assert done.returncode == 0, done.stderr
    finally:
        stop.set()
        thread.join()
    assert "0" not in sent  # a trial process makes it 2
    eventually(lambda: redis.cli("GET", "n") == str(len(sent)),
               f"{len(sent)} are counted, not {redis.cli('GET', 'n')}")


def test_a_task_that_subscribes_ends_with_the_node(start, redis):
    node = start(r"""
        local r = moonshine.redis()
        moonshine.spawn(function()
            r:subscribe("news", function() moonshine.sleep(60) end)
        end)
    """, settings={"redis.url": redis.url, "drain_timeout": "500ms"})
    eventually(lambda: listeners(redis) == 1, "it listens")
    redis.cli("PUBLISH", "news", "one")
    node.stop()
