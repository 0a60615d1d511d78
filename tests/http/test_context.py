"""What a handler reads from `c` and sets through it."""

import re

import pytest

from support.client import Client, build

APP = r'''
local json = moonshine.json
app:any("/request/:id", function(c)
    return {
        method = c:method(), path = c:path(), raw_query = c:raw_query(),
        route = c:route(), request_id = c:request_id(), ip = c:ip(),
        scheme = c:scheme(), host = c:host(), generation = c:generation(),
        id = c:param("id"),
    }
end, { name = "r" })
app:get("/query", function(c)
    return {
        a = c:query("a"), all = c:query_all("a"),
        fallback = c:query("none", "fallback"),
        all_of_none = json.array(c:query_all("none")),
        map = c:queries(),
    }
end)
app:get("/levels", function()
    for _, level in ipairs { "debug", "info", "warn", "error" } do
        moonshine.log[level]("it is " .. level, { part = 1 })
    end
    moonshine.log.debug("no fields")
    moonshine.log.error("no fields")
end)
app:get("/query-int", function(c)
    return tostring(c:query_int("n", { default = 5, min = 1, max = 10 }))
end)
app:get("/headers", function(c)
    return { one = c:header("x-one"), ONE = c:header("X-ONE"),
             none = c:header("x-none") == nil, all = c:headers() }
end)
app:get("/cookies", function(c)
    return { a = c:cookie("a"), none = c:cookie("none") == nil,
             all = c:cookies() }
end)
app:get("/set", function(c)
    c:status(201)
    c:set_header("X-A", "1")
    c:set_header("x-a", "2")
    c:add_header("X-B", "1")
    c:add_header("X-B", "2")
    c:set_header("X-C", "gone")
    c:set_header("X-C", nil)
    c:set_header("X-Read", c:response_header("X-A") .. c:status())
    return "set"
end)
app:get("/return-headers", function()
    return "body", 202, { ["X-A"] = "a", ["Content-Type"] = "text/x-own" }
end)
app:get("/cookie/:kind", function(c)
    local kind = c:param("kind")
    if kind == "plain" then c:set_cookie("id", "v1")
    elseif kind == "full" then
        c:set_cookie("id", "v2", { max_age = "1h", path = "/x",
            domain = "test.local", secure = true, http_only = false,
            same_site = "Strict" })
    elseif kind == "two" then c:set_cookie("a", "1") c:set_cookie("b", "2")
    elseif kind == "bad" then c:set_cookie("id", "a\r\nSet-Cookie: x=y")
    end
    return "ok"
end)
app:get("/text", function(c) c:text("t") end)
app:get("/html", function(c) c:html("<p>") end)
app:get("/json", function(c) c:json({ a = 1 }, 203) end)
app:get("/bytes", function(c) c:bytes("\0\1", "application/x-own") end)
app:any("/redirect", function(c) c:redirect("/text") end)
app:get("/redirect-301", function(c) c:redirect("/text", 301) end)
app:get("/inject/:how", function(c)
    local how = c:param("how")
    local bad = "a\r\nX-Evil: 1"
    if how == "set" then c:set_header("X-A", bad)
    elseif how == "add" then c:add_header("X-A", bad)
    elseif how == "name" then c:set_header(bad, "v")
    elseif how == "return" then return "x", 200, { ["X-A"] = bad }
    elseif how == "type" then return c:bytes("x", bad)
    end
    return "done"
end)
app:get("/redirect-odd", function(c) c:redirect("/a\r\nX-Evil: 1") end)
app:get("/store", function(c)
    c:set("k", { 1 })
    return c:get("k")[1] .. tostring(c:get("none"))
end)
app:get("/assign", function(c)
    local _, message = pcall(function() c.user = 1 end)
    return message
end)
app:get("/unknown", function(c)
    local _, message = pcall(function() return c:parm("x") end)
    return message
end)
local kept
app:get("/keep", function(c) kept = c return "kept" end)
app:get("/use-kept", function()
    local ok, message = pcall(kept.path, kept)
    return tostring(ok) .. " " .. tostring(message)
end)
app:get("/log", function(c)
    c:log("warn", "from the handler", { answer = 42 })
    print("printed", 1)
    return "ok"
end)
app:get("/env", function() return tostring(moonshine.env("TEST_VARIABLE")) end)
app:get("/about", function()
    local w = moonshine.worker()
    return { id = w.id, count = w.count, node = moonshine.node(),
             generation = moonshine.generation(), version = moonshine.version }
end)
local deferred = {}
app:get("/defer", function(c)
    c:defer(function() deferred[#deferred + 1] = "defer" end)
    c:after(function() deferred[#deferred + 1] = "after" end)
    return "now " .. #deferred
end)
app:get("/deferred", function() return table.concat(deferred, " ") end)
'''


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP, env={"TEST_VARIABLE": "seen"}, name="ctx")


def test_request(node):
    response = node.request("PUT", "/request/%C3%A9?x=%20&y")
    got = response.json()
    assert got["method"] == "PUT"
    assert got["path"] == "/request/\u00e9"
    assert got["raw_query"] == "x=%20&y"
    assert got["route"] == "/request/:id"
    assert got["id"] == "\u00e9"
    assert got["ip"] == "127.0.0.1"
    assert got["scheme"] == "http"
    assert got["host"] == "test.local"
    assert got["generation"] == 1
    assert got["request_id"] == response.header("X-Request-Id")
    assert len(got["request_id"]) >= 8


def test_query(node):
    got = node.get("/query?a=1&a=%32+x&b&c=%zz").json()
    assert got["a"] == "1"
    assert got["all"] == ["1", "2 x"]
    assert got["fallback"] == "fallback"
    assert got["all_of_none"] == []
    assert got["map"] == {"a": "1", "b": "", "c": "%zz"}


def test_query_int(node):
    assert node.get("/query-int?n=7").text == "7"
    assert node.get("/query-int").text == "5"
    assert node.get("/query-int?n=").text == "5"
    for bad in ("x", "0", "11", "1.5", "7x"):
        assert node.get(f"/query-int?n={bad}").status == 400, bad


def test_headers(node):
    got = node.get("/headers", {"X-One": "1"}).json()
    assert (got["one"], got["ONE"], got["none"]) == ("1", "1", True)
    assert {k.lower(): v for k, v in got["all"].items()}["x-one"] == "1"


def test_cookies(node):
    got = node.get("/cookies", {"Cookie": 'a=1; b="2"; c=x=y'}).json()
    assert (got["a"], got["none"]) == ("1", True)
    assert got["all"] == {"a": "1", "b": "2", "c": "x=y"}
    assert node.get("/cookies", {"Cookie": ";;=;a"}).status == 200


def test_set_headers(node):
    response = node.get("/set")
    assert response.status == 201
    assert response.header("X-A") == "2"
    assert response.all("X-B") == ["1", "2"]
    assert response.header("X-C") is None
    assert response.header("X-Read") == "2201"


def test_returned_headers(node):
    response = node.get("/return-headers")
    assert (response.status, response.body) == (202, b"body")
    assert response.header("X-A") == "a"
    assert response.header("Content-Type") == "text/x-own"


def attributes(cookie):
    first, *rest = [part.strip() for part in cookie.split(";")]
    return first, {part.lower() for part in rest}


def test_set_cookie(node):
    first, attrs = attributes(node.get("/cookie/plain").header("Set-Cookie"))
    assert first == "id=v1"
    assert attrs == {"path=/", "httponly", "samesite=lax"}
    first, attrs = attributes(node.get("/cookie/full").header("Set-Cookie"))
    assert first == "id=v2"
    assert attrs == {"path=/x", "secure", "samesite=strict", "max-age=3600",
                     "domain=test.local"}
    assert len(node.get("/cookie/two").all("Set-Cookie")) == 2
    assert node.get("/cookie/bad").status == 500


def test_responses(node):
    for target, status, kind, body in (
            ("/text", 200, "text/plain; charset=utf-8", b"t"),
            ("/html", 200, "text/html; charset=utf-8", b"<p>"),
            ("/json", 203, "application/json", b'{"a":1}'),
            ("/bytes", 200, "application/x-own", b"\0\1")):
        response = node.get(target)
        assert (response.status, response.body) == (status, body)
        assert response.header("Content-Type") == kind


def test_redirect(node):
    for method, status in (("GET", 302), ("HEAD", 302), ("POST", 303)):
        response = node.request(method, "/redirect")
        assert response.status == status
        assert response.header("Location") == "/text"
    assert node.get("/redirect-301").status == 301


@pytest.mark.parametrize("how", ["set", "add", "name", "return", "type"])
def test_no_header_injection(node, how):
    response = node.get(f"/inject/{how}")
    assert response.header("X-Evil") is None
    assert response.status == 500


def test_redirect_cannot_inject(node):
    response = node.get("/redirect-odd")
    assert response.header("X-Evil") is None
    assert response.status == 500 or "%0D%0A" in response.header("Location")


def test_store_of_the_request(node):
    assert node.get("/store").text == "1nil"


def test_wrong_use_raises_with_the_place(node):
    assert "set" in node.get("/assign").text
    assert "param" in node.get("/unknown").text
    assert "app.lua:" in node.get("/unknown").text


def test_context_is_dead_after_the_request(node):
    with Client(node.address) as client:
        assert client.get("/keep").text == "kept"
        assert client.get("/use-kept").text.startswith("false ")


def test_log(node):
    response = node.get("/log")
    line = node.wait_log(r".*from the handler.*").group()
    assert "42" in line
    assert response.header("X-Request-Id") in line
    node.wait_log(r"printed\s+1")


def test_request_ids_differ(node):
    with Client(node.address) as client:
        ids = {client.get("/text").header("X-Request-Id") for _ in range(50)}
    assert len(ids) == 50


def test_request_id_of_strangers_is_not_taken(node):
    response = node.get("/text", {"X-Request-Id": "stranger-00000001"})
    assert response.header("X-Request-Id") != "stranger-00000001"


def test_node_facts(node):
    assert node.get("/env").text == "seen"
    got = node.get("/about").json()
    assert got["count"] == 1
    assert got["generation"] == 1
    assert got["node"] == "ctx"
    assert got["version"].count(".") == 2


def test_defer_and_after(node):
    with Client(node.address) as client:
        assert client.get("/defer").text == "now 0"
        words = client.get("/deferred").text.split()
        assert sorted(words) == ["after", "defer"]


def test_forwarded_headers_of_strangers_do_not_count(node):
    got = node.get("/request/x", {"X-Forwarded-For": "9.9.9.9",
                                  "X-Forwarded-Proto": "https",
                                  "X-Forwarded-Host": "evil.example",
                                  "Forwarded": "for=9.9.9.9;proto=https"})
    assert (got.json()["ip"], got.json()["scheme"]) == ("127.0.0.1", "http")
    assert got.json()["host"] == "test.local"


def test_pipelined_contexts_are_not_mixed(node):
    with Client(node.address) as client:
        client.send(b"".join(
            build("GET", f"/request/{n}?q={n}") for n in range(50)))
        for n in range(50):
            got = client.read_response().json()
            assert (got["id"], got["raw_query"]) == (str(n), f"q={n}")


def test_levels_of_the_log(start):
    for level, silent in (("debug", ()), ("error", ("debug", "info", "warn"))):
        node = start(APP, settings={"log.level": level})
        assert node.get("/levels").status == 204
        node.wait_log(r"error test worker 1: no fields")
        for name in ("debug", "info", "warn", "error"):
            line = re.search(rf"{name} +test worker 1: it is {name} (.*)",
                             node.log())
            assert bool(line) == (name not in silent)
            assert not line or {"part=1", "route=/levels"} <= \
                set(line[1].split())
