"""What is of one request stays in it: whatever an application keeps longer than
the request (its context, the function that writes its stream, its session, its
coroutine) never reaches the request that comes after it in the same place."""

import collections
import random
import threading

import pytest

from support.admin import Admin
from support.client import Client, build
from support.faults import Proxy
from support.forms import multipart
from support.node import eventually
from support.servers import RedisServer

JIT = pytest.mark.parametrize("jit", ["on", "off"])


# ---- what an application keeps ----

WRITERS = """
local kept = {}
app:get("/open/:who", function(c)
    local who, slow = c:param("who"), c:query("slow")
    c:stream(function(write)
        kept[who] = write
        write(who .. "\\n")
        if slow then
            for _ = 1, 1000 do
                moonshine.sleep("5ms")
                if not write(who .. "\\n") then return end
            end
        end
    end)
end)
app:post("/say/:who", function(c)
    local ok, message = kept[c:param("who")](c:query("what"))
    return { ok = ok, message = message }
end)
"""


@JIT
def test_a_kept_write_does_not_reach_the_next_stream(start, jit):
    node = start(WRITERS, env={"MOONSHINE_JIT": jit})
    assert node.get("/open/first").text == "first\n"
    with node.connect() as second:
        second.send(build("GET", "/open/second?slow=1"))
        second.read_head()
        pieces = second.read_chunks()
        assert next(pieces) == b"second\n"
        said = node.request("POST", "/say/first?what=secret-of-first")
        assert said.json() == {"message": "closed"}
        for _ in range(20):
            assert next(pieces) == b"second\n"


def test_a_broadcast_waits_for_a_slow_client_and_goes_on(start):
    """The one that writes is a request of its own; its reader stops reading,
    goes on, and leaves."""
    node = start("""
    local kept
    app:get("/open", function(c)
        c:stream(function(write)
            kept = write
            write("begin")
            moonshine.sleep("60s")
        end)
    end)
    app:post("/flood", function(c)
        local piece, ok, message = ("x"):rep(65536)
        for i = 1, c:query_int("n") do
            ok, message = kept(piece)
            if not ok then break end
        end
        return { ok = ok, message = message }
    end)
    """, settings={"write_timeout": "60s"})
    reader = node.connect()
    reader.send(build("GET", "/open"))
    reader.read_head()
    pieces = reader.read_chunks()
    assert next(pieces) == b"begin"
    writer = node.connect()
    writer.send(build("POST", "/flood?n=400"))

    def waits():
        return "client to read" in node.command("status", "--requests").stdout
    eventually(waits, "the writer waits")
    got = 0
    while got < 400 * 65536:
        got += len(next(pieces))
    assert writer.read_response().json() == {"ok": True}
    # And when the stream ends while somebody else waits for it.
    writer.send(build("POST", "/flood?n=400"))
    eventually(waits, "the writer waits again")
    reader.close()
    assert writer.read_response().json() == {"message": "closed"}


KEPT_CONTEXTS = """
local kept
app:any("/keep/:who", function(c)
    kept = c
    c:set("who", c:param("who"))
    return "kept"
end)
app:any("/use/:who", function(c)
    local said, old = {}, kept
    local function try(name, ...)
        local ok, value = pcall(old[name], old, ...)
        said[name] = ok and tostring(value) or "raises"
        local plain = tostring(value)
        assert(ok or plain:find("used after its request ended", 1, true), name .. plain)
    end
    for _, name in ipairs { "method", "path", "raw_query", "route", "request_id",
        "ip", "scheme", "host", "generation", "closing", "queries", "headers", "cookies",
        "body", "body_file", "read", "bind", "forms", "uploads", "session", "status",
        "fresh" } do
        if name ~= "fresh" then try(name) end
    end
    try("param", "who") try("query", "q") try("query_all", "q") try("query_int", "q")
    try("header", "host") try("cookie", "id") try("get", "who") try("set", "k", 1)
    try("form", "f") try("upload", "f") try("try_bind", {}) try("set_header", "X", "y")
    try("add_header", "X", "y") try("set_cookie", "x", "y") try("response_header", "X")
    try("text", "t") try("html", "t") try("json", {}) try("bytes", "t")
    try("redirect", "/") try("send_file", "app.lua") try("stream", function() end)
    try("fail", 404) try("log", "info", "x") try("url", "n")
    try("defer", print) try("after", print)
    return said
end)
"""


@JIT
def test_a_kept_context_is_dead(start, jit):
    node = start(KEPT_CONTEXTS, env={"MOONSHINE_JIT": jit})
    for _ in range(100):
        node.get("/keep/first", {"Cookie": "id=secret"})
        said = node.get("/use/second?q=secret", {"Cookie": "id=secret"})
        assert set(said.json().values()) == {"raises"}, said.text
        assert "X" not in dict(said.headers)



# ---- tasks that outlive their request ----

TASKS = """
local said = {}
local function aside(fn)
    moonshine.spawn(function()
        local ok, value = pcall(fn)
        said[#said + 1] = tostring(value)
    end)
end
app:get("/said", function()
    local list = said
    if c_keep then return end
    return { said = moonshine.json.array(list) }
end)
app:get("/ask/:how", function(c)
    local how = c:param("how")
    aside(function()
        if how == "update" then
            return c:session():update(function(view) return view:get("who") end)
        end
        return c:session():get("who")
    end)
    if how == "both" then return c:session():get("who") end
    moonshine.sleep(0)
    return "left"
end)
app:post("/begin/:who", function(c)
    c:session():set("who", c:param("who"))
    return "begun"
end)
app:get("/who", function(c)
    local who = c:session():get("who")
    moonshine.sleep("20ms")
    return who
end)
app:post("/read", function(c)
    aside(function()
        local all = ""
        while true do
            local piece, message = c:read()
            if not piece then return all .. (message or "end") end
            all = all .. piece
        end
    end)
    moonshine.sleep("20ms")
    return "left"
end, { body = "stream" })
app:post("/body", function(c)
    local first = c:read()
    return first .. c:read()
end, { body = "stream" })
app:get("/ping", function() return "pong" end)
""".replace("    if c_keep then return end\n", "")


def said(node, count):
    """What the tasks aside came to."""
    return eventually(lambda: len(node.get("/said").json()["said"]) >= count and
                      node.get("/said").json()["said"], f"{count} tasks end")


def begin(node, who):
    answer = node.request("POST", f"/begin/{who}")
    assert answer.text == "begun", answer.text
    return {"Cookie": answer.header("Set-Cookie").split(";")[0]}


@pytest.mark.parametrize("how", ["get", "update"])
def test_a_session_that_a_task_waits_for_ends_with_its_request(start, how):
    """The store does not answer, the request ends; what the task waits in must
    not be touched afterwards, when others have their requests there."""
    with RedisServer() as redis, Proxy(("127.0.0.1", redis.port)) as proxy:
        node = start(TASKS, settings={
            "session.url": f"redis://127.0.0.1:{proxy.port}/0"})
        first, second = begin(node, "first"), begin(node, "second")
        proxy.mode = "freeze"
        for _ in range(8):
            assert node.get(f"/ask/{how}", first).text == "left"
        for text in said(node, 8):
            assert "used after its request ended" in text, text
        proxy.cut(then="pass")
        for _ in range(8):
            eventually(lambda: node.get("/who", second).text == "second",
                       "the store is back")
        for text in node.get("/said").json()["said"]:
            assert "first" not in text and "second" not in text


@JIT
def test_a_task_in_line_for_a_session_does_not_get_the_next_one(start, jit):
    """It waits until its request is done with the session; by then another
    request, of another user, may be in its place."""
    with RedisServer() as redis, Proxy(("127.0.0.1", redis.port)) as proxy:
        node = start(TASKS, env={"MOONSHINE_JIT": jit}, settings={
            "session.url": f"redis://127.0.0.1:{proxy.port}/0"})
        first, second = begin(node, "first"), begin(node, "second")
        proxy.mode, proxy.seconds = "delay", 0.03
        others = [node.connect() for _ in range(12)]
        for turn in range(15):
            with Client(node.address) as gone:
                gone.send(build("GET", "/ask/both", first))
                eventually(lambda: any(
                    r["waits_on"] == "session" for r in Admin(node).requests()),
                    "it waits")
                # This ends it; one of the others will be where it was.
                gone.close()
                for other in others:
                    other.send(build("GET", "/who", second))
                for other in others:
                    assert other.read_response().text == "second"
            for text in said(node, turn + 1):
                assert "second" not in text, text


@JIT
def test_a_task_that_reads_a_body_ends_with_its_request(start, jit):
    node = start(TASKS, env={"MOONSHINE_JIT": jit})
    for turn in range(5):
        with Client(node.address) as first, Client(node.address) as second:
            first.send(b"POST /read HTTP/1.1\r\nHost: a\r\n"
                       b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            assert first.read_response().text == "left"
            second.send(b"POST /body HTTP/1.1\r\nHost: a\r\n"
                        b"Transfer-Encoding: chunked\r\n\r\n6\r\nsecond\r\n")
            assert node.get("/ping").text == "pong"
            second.send(b"5\r\n-more\r\n0\r\n\r\n")
            assert second.read_response().text == "second-more"
        for text in said(node, turn + 1):
            assert "second" not in text and "more" not in text, text


# ---- what a request that was stopped leaves behind ----


def test_a_stopped_update_leaves_nothing_behind(start):
    """Nothing may wait within session:update; that rule ends with the request
    that broke another one there."""
    node = start("""
    app:get("/loop", function(c)
        return c:session():update(function() while true do end end)
    end)
    app:get("/wait", function() moonshine.sleep("1ms") return "waited" end)
    """, settings={"cpu_limit": "50ms"})
    assert node.get("/loop").status == 503
    assert node.get("/wait").text == "waited"


# ---- coroutines are used again ----

COROUTINES = """
local by_coroutine, threads = {}, {}
app:get("/keep/:who", function(c)
    local co = coroutine.running()
    local before = by_coroutine[co or "main"]
    by_coroutine[co or "main"] = c:param("who")
    moonshine.sleep(0)
    local own = by_coroutine[coroutine.running() or "main"]
    return { before = before, own = own }
end)
app:get("/wait", function(c)
    threads[1] = coroutine.running()
    moonshine.sleep("300ms")
    return "waited"
end)
app:get("/resume", function(c)
    local ok, message = coroutine.resume(threads[1], "forged")
    return { ok = ok, message = tostring(message) }
end)
app:get("/trace", function(c)
    local secret = c:query("secret")
    local function deep() error({ secret }) end
    deep()
end)
app:get("/look", function()
    local seen = { debug.traceback("", 1) }
    for level = 1, 20 do
        local info = debug.getinfo(level, "f")
        if not info then break end
        for i = 1, 250 do
            local name, value = debug.getlocal(level, i)
            if not name then break end
            seen[#seen + 1] = type(value) == "string" and value or nil
        end
    end
    return table.concat(seen, "\\n")
end)
"""


@JIT
def test_a_coroutine_stands_for_one_request(start, jit):
    """Libraries keep what belongs to a coroutine under it."""
    node = start(COROUTINES, env={"MOONSHINE_JIT": jit})
    for number in range(200):
        kept = node.get(f"/keep/w{number}").json()
        assert kept == {"own": f"w{number}"}


def test_nobody_resumes_the_coroutine_of_another_request(start):
    node = start(COROUTINES)
    with node.connect() as client:
        client.send(build("GET", "/wait"))
        eventually(lambda: "sleep" in node.command(
            "status", "--requests").stdout, "it waits")
        said = node.get("/resume").json()
        assert said["ok"] is False and "of a request" in said["message"], said
        assert client.read_response().text == "waited"


@JIT
def test_the_stack_of_an_error_is_gone(start, jit):
    node = start(COROUTINES, env={"MOONSHINE_JIT": jit})
    for _ in range(50):
        assert node.get("/trace?secret=canary-of-first").status == 500
        assert "canary" not in node.get("/look").text


# ---- connections and links are used again ----


def test_a_kept_connection_forgets_who_was_behind_it(start):
    """Behind a proxy each request of a connection may be another client's."""
    node = start("""
    app:get("/", function(c)
        return { ip = c:ip(), scheme = c:scheme(), host = c:host(),
            id = c:request_id(), from = c:header("X-Forwarded-For") }
    end)
    """, settings={"trusted_proxies": "127.0.0.0/8"})
    said = {"X-Forwarded-For": "9.9.9.9", "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "first.example", "X-Request-Id": "first-0000"}
    with Client(node.address) as proxy:
        for _ in range(3):
            first = proxy.get("/", said).json()
            assert first == {"ip": "9.9.9.9", "scheme": "https",
                             "host": "first.example", "id": "first-0000",
                             "from": "9.9.9.9"}
            second = proxy.get("/").json()
            assert second.pop("id") != "first-0000"
            assert second == {"ip": "127.0.0.1", "scheme": "http",
                              "host": "test.local"}
            # Nor does what is no request inherit anything.
        proxy.send(build("GET", "/", said) + b"GET /x y\r\n\r\n")
        assert proxy.read_response().json()["id"] == "first-0000"
        bad = proxy.read_response()
        assert (bad.status, bad.header("X-Request-Id")) != (200, "first-0000")
    node.wait_log("access ip=127.0.0.1 .* status=400 .*request=[0-9a-f]{32}")


LINKS = """
local r = moonshine.redis(nil, { timeout = "15ms" })
local script = r:prepare("return { KEYS[1], redis.call('GET', KEYS[1]) }")
local function key(c) return "k:" .. c:param("who") end
local ways = {}
function ways.get(c) return r:get(key(c)) end
function ways.mget(c)
    local list = r:mget(key(c), key(c))
    return list and (list[1] == list[2] and list[1] or "unequal")
end
function ways.pipeline(c)
    local list = r:pipeline(function(p) p:echo(key(c)) p:get(key(c)) end)
    return list and (list[1] == key(c) and list[2] or "echo " .. tostring(list[1]))
end
function ways.multi(c)
    local list = r:multi(function(m) m:echo(key(c)) m:get(key(c)) end)
    return list and (list[1] == key(c) and list[2] or "echo " .. tostring(list[1]))
end
function ways.script(c)
    local list = script({ key(c) })
    return list and (list[1] == key(c) and list[2] or "key " .. tostring(list[1]))
end
function ways.dedicated(c)
    return r:dedicated(function(link) return link:get(key(c)) end)
end
app:get("/set/:who", function(c)
    return { moonshine.redis():set(key(c), c:param("who")) }
end)
app:get("/ask/:who", function(c)
    return ways[c:query("way")](c) or "nothing"
end)
"""


@JIT
def test_answers_of_redis_are_whose_who_asked(start, jit):
    """Users time out, leave and are slow on links that they share."""
    with RedisServer() as redis, Proxy(("127.0.0.1", redis.port)) as proxy:
        node = start(LINKS, env={"MOONSHINE_JIT": jit}, settings={
            "redis.url": f"redis://127.0.0.1:{proxy.port}/0"})
        users = [f"user{number}" for number in range(8)]
        for user in users:
            eventually(lambda: node.get(f"/set/{user}").text == '["OK"]',
                       "it is set")
        given, wrong, ending = collections.Counter(), [], []

        def live(user):
            chance = random.Random(user + jit)
            while not ending:
                way = chance.choice(["get", "mget", "pipeline", "multi",
                                     "script", "dedicated"])
                with Client(node.address) as client:
                    client.send(build("GET", f"/ask/{user}?way={way}"))
                    if chance.random() < 0.2:
                        continue
                    text = client.read_response().text
                given[text == user] += 1
                if text not in (user, "nothing"):
                    wrong.append((user, way, text))
        threads = [threading.Thread(target=live, args=(user,), daemon=True)
                   for user in users]
        for thread in threads:
            thread.start()
        chance = random.Random(jit)
        for _ in range(12):
            proxy.mode = chance.choice(["delay", "trickle", "pass"])
            proxy.seconds = chance.choice([0.01, 0.015, 0.02, 0.05])
            until = sum(given.values()) + 100
            eventually(lambda: sum(given.values()) >= until, "answers")
            if chance.random() < 0.3:
                proxy.cut(then="pass")
        ending.append(True)
        for thread in threads:
            thread.join()
        assert wrong == []
        assert given[True] > 5 and given[False] > 5, given


def test_a_kept_path_does_not_lead_to_the_next_upload(start):
    """`upload.path` is gone with its request, and stays so."""
    node = start("""
    app:post("/path", function(c)
        local path = c:upload("f").path
        local file = assert(io.open(path))
        assert(file:read("*a") == c:form("who"))
        file:close()
        moonshine.sleep(c:query("wait", "0"))
        return path
    end)
    app:get("/open", function(c)
        local file = io.open(c:query("path"))
        return { said = file and file:read("*a") }
    end)
    """)

    def post(client, who, wait=""):
        kind, body = multipart(("who", who), ("f", who, "f.txt"))
        client.send(build("POST", "/path" + wait, {"Content-Type": kind}, body))
    with Client(node.address) as first, Client(node.address) as second:
        post(first, "first")
        path = first.read_response().text
        assert node.get(f"/open?path={path}").json() == {}
        post(second, "secret-of-second", "?wait=60s")
        eventually(lambda: any(r["waits_on"] == "sleep"
                               for r in Admin(node).requests()), "it waits")
        assert node.get(f"/open?path={path}").json() == {}
