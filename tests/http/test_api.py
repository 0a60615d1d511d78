"""What a Lua application sees and does: results, the context, failures."""

import pytest

APP = r"""
local moonshine = require "moonshine"
local app = moonshine.app()

local function order(name)
    return function(c, proceed)
        c:set("order", (c:get("order") or "") .. name)
        local body, status = proceed(c)
        c:add_header("X-Order", name)
        return body, status
    end
end

app:get("/text", function() return "text" end)
app:get("/json", function() return { list = { 1, 2 }, none = moonshine.json.null } end)
app:get("/empty-list", function() return moonshine.json.array {} end)
app:get("/status", function() return { made = true }, 201, { ["X-Made"] = "yes", ["X-Two"] = { "a", "b" } } end)
app:get("/nothing", function() end)
app:get("/only-status", function() return nil, 404 end)
app:get("/number", function() return 42 end)
app:get("/bad-status", function() return "x", "201" end)
app:get("/unencodable", function() return { f = print } end)
app:get("/set/:how", function(c)
    local how = c:param("how")
    if how == "text" then c:text("t", 202)
    elseif how == "html" then c:html("<p>")
    elseif how == "json" then c:json({ 1 }, 203)
    elseif how == "bytes" then c:bytes("\0\1", "image/x")
    elseif how == "both" then c:text("stored") return "returned"
    elseif how == "status" then c:status(418) end
end)
app:get("/redirect", function(c) c:redirect("/to here?a=b\r\nX: y") end)
app:post("/redirect", function(c) c:redirect("/done") end)

app:get("/params/:a/:n<int>/*rest", function(c)
    return { a = c:param("a"), n = c:param("n"), rest = c:param("rest"), none = c:param("b") == nil }
end)
app:get("/query", function(c)
    return { a = c:query("a"), d = c:query("none", "default"), all = c:query_all("a"), map = c:queries(),
             raw = c:raw_query() }
end)
app:get("/int", function(c) return { n = c:query_int("n", { default = 5, min = 1, max = 9 }) } end)
app:any("/request", function(c)
    return { method = c:method(), path = c:path(), route = c:route(), id = c:request_id(), ip = c:ip(),
        scheme = c:scheme(), host = c:host(), generation = c:generation(), ua = c:header("USER-AGENT"),
        ua2 = c:headers()["User-Agent"], cookie = c:cookie("b"), cookies = c:cookies(), closing = c:closing() }
end)
app:get("/cookies", function(c)
    c:set_cookie("a", "1")
    c:set_cookie("b", "2", { max_age = "1h", path = "/x", same_site = "strict", secure = true, http_only = false })
    c:set_cookie("gone", nil)
    return "set"
end)
app:get("/headers", function(c)
    c:set_header("X-A", 1) c:add_header("X-A", "2") c:set_header("X-B", "b") c:set_header("X-B", nil)
    return { a = c:response_header("x-a"), b = c:response_header("x-b") == nil }
end)
app:get("/bad-header", function(c) c:set_header("X-A", "a\r\nX-Evil: 1") return "never" end)
app:get("/own-header", function(c) c:set_header("Content-Length", "1") return "never" end)
app:post("/body", function(c) c:bytes(c:body(), c:header("Content-Type")) end)
app:post("/bind", function(c) return { got = c:bind() } end)
app:post("/try-bind", function(c)
    local value, message, code = c:try_bind()
    return { value = value, message = message, code = code }
end)
app:post("/limited", function(c)
    local sum = 0
    for piece in c.read, c do sum = sum + #piece end
    return { sum = sum }
end, { body = "stream", body_limit = 1000 })
app:post("/form", function(c) return { a = c:form("a"), all = c:forms() } end)
app:post("/file", function(c)
    local file, sum = c:body_file(), 0
    for piece in file.read, file do sum = sum + #piece end
    return { size = file.size, sum = sum }
end, { body = "file" })
app:post("/streamed", function(c)
    local sum, pieces = 0, 0
    while true do
        local piece, why = c:read()
        if not piece then return { sum = sum, pieces = pieces, why = why } end
        sum, pieces = sum + #piece, pieces + 1
    end
end, { body = "stream", body_limit = "64m" })

app:group("/order", order "a", function(group)
    group:use(order "b")
    group:get("/one", order "c", function(c) return c:get("order") end)
    group:use(order "d")
    group:get("/two", function(c) return c:get("order") end)
end)
app:get("/end-early", function() return "early", 202 end, function() error("never") end)
app:get("/silent", function(c, proceed) proceed(c) end, function() return { inner = 1 }, 201 end)
app:get("/twice", function(c, proceed) proceed(c) return proceed(c) end, function() return "x" end)
app:get("/wrong-c", function(_, proceed) return proceed({}) end, function() return "x" end)
app:get("/pcall", function(c, proceed)
    local ok, err = pcall(proceed, c)
    return { ok = ok, err = tostring(err) }
end, function() error("inner") end)
local object = setmetatable({ name = "object" }, { __call = function(_, c, proceed)
    c:set_header("X-Object", "1") return proceed(c)
end })
app:get("/object", object, function() return "x" end)

app:get("/fail", function(c)
    c:set_header("X-Kept", "1") c:set_header("ETag", '"a"') c:set_header("Cache-Control", "max-age=60")
    c:fail(422, "wrong", { name = "missing" }, { ["X-Why"] = "name" })
end)
app:get("/error", function() error("secret") end)
app:get("/error-table", function() error({ code = 7 }) end)
app:get("/params-typo", function(c) return c.params end)
app:get("/assign", function(c) c.user = 1 end)
app:get("/set-nil", function(c) c:set(nil, 1) end)
local kept
app:get("/keep", function(c) kept = c return "kept" end)
app:get("/kept", function() return kept:path() end)
app:get("/nocolon", function(c) return c.param("a") end)
app:get("/global", function() leaked = 1 end)
app:get("/undefined", function() return undefined_name end)
app:get("/exit", function() os.exit(1) end)
app:get("/print", function() print("printed", 1, nil) return "ok" end)
app:get("/log", function(c) c:log("warn", "noted", { z = 2, n = 1, b = true, s = "x y" }) return "ok" end)
app:get("/named/:id<int>/x", function(c) return c:url("named", { id = 7 }, { q = "a b", l = { 1, 2 } }) end,
    { name = "named" })
app:get("/url-missing", function(c) return c:url("named", {}) end)
app:get("/url-unknown", function(c) return c:url("nmed") end)

app:get("/after", function(c)
    c:defer(function() print("deferred one") end)
    c:defer(function() print("deferred two") end)
    c:after(function() print("after " .. c:path()) end)
    return "x"
end)
app:get("/defer-error", function(c) c:defer(function() print("deferred anyway") end) error("x") end)

app:get("/send", function(c) c:send_file("files/a.txt", { max_age = 60 }) end)
app:get("/send-out", function(c) c:send_file("../" .. c:query("f"), { root = "files" }) end)
app:get("/download", function(c) c:send_file("a.txt", { root = "files", download = "naïve.txt" }) end)
app:static("/static", "files")

app:on(404, { error = "no such page" })
return app
"""


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared({"app.lua": APP, "files/a.txt": "file a\n", "out.txt": "out"})


def test_results(node):
    r = node.get("/text")
    assert (r.status, r.body, r.header("Content-Type")) == (200, b"text", "text/plain; charset=utf-8")
    r = node.get("/json")
    assert r.json() == {"list": [1, 2], "none": None}
    assert r.header("Content-Type") == "application/json"
    assert node.get("/empty-list").body == b"[]"
    r = node.get("/status")
    assert r.status == 201 and r.header("X-Made") == "yes" and r.all("X-Two") == ["a", "b"]
    r = node.get("/nothing")
    assert r.status == 204 and r.body == b"" and r.header("Content-Type") is None
    assert node.get("/only-status").status == 404


@pytest.mark.parametrize("path, words", [
    ("/number", "returned a number"),
    ("/bad-status", "second result must be a status"),
    ("/unencodable", "function at .f"),
])
def test_bad_results(node, path, words):
    assert node.get(path).status == 500
    line = node.wait_log(r"request failed: (.*%s.*)" % words)[1]
    assert "app.lua:" in line and "kind=result" in line


@pytest.mark.parametrize("how, status, body, mime", [
    ("text", 202, b"t", "text/plain; charset=utf-8"),
    ("html", 200, b"<p>", "text/html; charset=utf-8"),
    ("json", 203, b"[1]", "application/json"),
    ("bytes", 200, b"\0\1", "image/x"),
    ("both", 200, b"returned", "text/plain; charset=utf-8"),
    ("status", 418, b"", None),
])
def test_stored_responses(node, how, status, body, mime):
    r = node.get("/set/" + how)
    assert (r.status, r.body, r.header("Content-Type")) == (status, body, mime)


def test_redirects(node):
    r = node.get("/redirect")
    assert r.status == 302 and r.header("X") is None
    assert r.header("Location") == "/to%20here?a=b%0D%0AX:%20y"
    assert node.request("POST", "/redirect", body=b"").status == 303


def test_parameters(node):
    assert node.get("/params/a%20b/12/x/y").json() == {"a": "a b", "n": 12, "rest": "x/y", "none": True}
    assert node.get("/query?a=1&a=%32+3&b").json() == {
        "a": "1", "d": "default", "all": ["1", "2 3"], "map": {"a": "1", "b": ""},
        "raw": "a=1&a=%32+3&b"}
    assert node.get("/int").json() == {"n": 5}
    assert node.get("/int?n=9").json() == {"n": 9}
    for bad in ("10", "0", "x", "1.5", "1e3"):
        r = node.get("/int?n=" + bad)
        assert r.status == 400 and "n must be" in r.text, bad


def test_too_many_arguments(node):
    many = "&".join(f"a{i}=1" for i in range(101))
    assert node.get("/query?" + many).status == 400


def test_request(node):
    seen = node.request("BREW", "/request?x", {"User-Agent": "t", "Cookie": "a=1; b=2"}).json()
    assert seen["method"] == "BREW" and seen["path"] == "/request" and seen["route"] == "/request"
    assert seen["ua"] == seen["ua2"] == "t" and seen["scheme"] == "http"
    assert seen["cookie"] == "2" and seen["cookies"] == {"a": "1", "b": "2"}
    assert len(seen["id"]) >= 8 and seen["generation"] == 1 and seen["closing"] is False


def test_cookies(node):
    assert node.get("/cookies").all("Set-Cookie") == [
        "a=1; Path=/; HttpOnly; SameSite=Lax",
        "b=2; Max-Age=3600; Path=/x; Secure; SameSite=Strict",
        "gone=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"]


def test_headers(node):
    r = node.get("/headers")
    assert r.all("X-A") == ["1", "2"] and r.header("X-B") is None
    assert r.json() == {"a": "1", "b": True}
    for path in ("/bad-header", "/own-header"):
        r = node.get(path)
        assert r.status == 500 and r.header("X-Evil") is None
    node.wait_log(r"c:set_header: the header \W+X-A")


def test_bodies(node):
    for size in (0, 5, 100_000, 900_000):
        r = node.request("POST", "/body", {"Content-Type": "a/b"}, b"x" * size)
        assert r.status == 200 and r.body == b"x" * size and r.header("Content-Type") == "a/b"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert node.request("POST", "/form", form, b"a=1&b=%41+b&a=2").json() == {
        "a": "1", "all": {"a": "1", "b": "A b"}}
    assert node.request("POST", "/form", {"Content-Type": "text/plain"}, b"a=1").status == 415
    assert node.request("POST", "/file", None, b"y" * 300_000).json() == {"size": 300000, "sum": 300000}


def test_bind(node):
    def post(mime, body, path="/bind"):
        return node.request("POST", path, {"Content-Type": mime} if mime else None, body)
    assert post("application/json; charset=utf-8", b'{"a":[]}').body == b'{"got":{"a":[]}}'
    assert post("application/vnd.x+json", b"[1]").json() == {"got": [1]}
    assert post("application/x-www-form-urlencoded", b"a=1&b=x+y").json() == {
        "got": {"a": "1", "b": "x y"}}
    r = post("application/json", b"{]")
    assert r.status == 400 and "line 1" in r.text
    assert post("text/plain", b"x").status == 415
    assert post(None, b"").status == 400
    seen = post("application/json", b"{]", "/try-bind").json()
    assert seen["code"] == 400 and "line 1" in seen["message"]


def test_streamed_body_over_its_limit(node):
    with node.connect() as client:
        client.send(b"POST /limited HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + b"300\r\n" + b"z" * 0x300 + b"\r\n300\r\n" + b"z" * 0x300 + b"\r\n0\r\n\r\n")
        assert client.read_response().status == 413
    assert node.request("POST", "/limited", None, b"q" * 1000).json() == {"sum": 1000}


def test_streamed_body(node):
    with node.connect() as client:
        client.send(b"POST /streamed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            client.send(b"2710\r\n" + b"z" * 10000 + b"\r\n")
        client.send(b"0\r\n\r\n")
        r = client.read_response().json()
    assert r["sum"] == 500_000 and r["pieces"] >= 2
    assert node.request("POST", "/streamed", None, b"q" * 3_000_000).json()["sum"] == 3_000_000


def test_middleware(node):
    r = node.get("/order/one")
    assert r.text == "abc" and r.all("X-Order") == ["c", "b", "a"]
    assert node.get("/order/two").text == "abd"
    r = node.get("/end-early")
    assert (r.status, r.text) == (202, "early")
    r = node.get("/silent")
    assert (r.status, r.json()) == (201, {"inner": 1})
    assert node.get("/twice").status == 500
    node.wait_log(r"app.lua:\d+: proceed\(c\) may be called once")
    assert node.get("/wrong-c").status == 500
    node.wait_log(r"app.lua:\d+: proceed\(c\) takes the context c")
    seen = node.get("/pcall").json()
    assert seen["ok"] is False and seen["err"].endswith("inner")
    assert node.get("/object").header("X-Object") == "1"


def test_wanted_failure(node):
    r = node.get("/fail", {"Accept": "application/json"})
    assert r.status == 422 and r.header("X-Kept") == "1" and r.header("X-Why") == "name"
    assert r.header("ETag") is None and r.header("Cache-Control") is None
    assert r.header("Content-Type") == "application/problem+json"
    body = r.json()
    assert body["status"] == 422 and body["detail"] == "wrong" and body["details"] == {"name": "missing"}


def test_errors_say_nothing_to_the_client(node):
    r = node.get("/error")
    assert r.status == 500 and b"secret" not in r.body and b"app.lua" not in r.body
    line = node.wait_log(r"request failed: app.lua:\d+: secret.*\n +traceback: .*")[0]
    assert r.header("X-Request-Id") in line and "route=/error" in line
    assert node.get("/error-table").status == 500


@pytest.mark.parametrize("path, words", [
    ("/params-typo", "c has no method 'params', did you mean 'param'"),
    ("/assign", "c.user cannot be assigned"),
    ("/set-nil", "c:set: the key must not be nil"),
    ("/nocolon", "call it with a colon"),
    ("/global", "assignment to the new global 'leaked'"),
    ("/undefined", "the global 'undefined_name' is not defined"),
    ("/exit", "os.exit would end the worker"),
    ("/url-missing", "url of 'named'"),
    ("/url-unknown", "no route is named 'nmed', did you mean 'named'"),
])
def test_wrong_use_names_the_line(node, path, words):
    assert node.get(path).status == 500
    node.wait_log(r"request failed: app.lua:\d+: " + words.replace("(", r"\("))


def test_context_dies_with_its_request(node):
    assert node.get("/keep").status == 200
    assert node.get("/kept").status == 500
    node.wait_log("c is used after its request ended")


def test_log(node):
    assert node.get("/print").text == "ok"
    node.wait_log(r"printed\s+1\s+nil")
    r = node.get("/log")
    line = node.wait_log(r"warn .*noted.*")[0]
    assert r.header("X-Request-Id") in line
    node.wait_log(r'noted .* b=true n=1 s="x y" z=2\n')


def test_urls(node):
    assert node.get("/named/1/x").text == "/named/7/x?l=1&l=2&q=a%20b"


def test_after_and_defer(node):
    assert node.get("/after").text == "x"
    node.wait_log(r"(?s)after /after.*deferred two.*deferred one")
    assert node.get("/defer-error").status == 500
    node.wait_log("deferred anyway")


def test_files(node):
    r = node.get("/send")
    assert r.text == "file a\n" and r.header("Content-Type") == "text/plain; charset=utf-8"
    assert "max-age=60" in r.header("Cache-Control")
    assert node.get("/send", {"If-None-Match": r.header("ETag")}).status == 304
    part = node.get("/send", {"Range": "bytes=5-"})
    assert part.status == 206 and part.text == "a\n"
    assert node.get("/send-out?f=out.txt").status == 404
    assert node.get("/send-out?f=files/none").status == 404
    r = node.get("/download")
    assert r.header("Content-Disposition") == \
        "attachment; filename=\"na__ve.txt\"; filename*=UTF-8''na%C3%AFve.txt"
    assert node.get("/static/a.txt").text == "file a\n"
    assert node.get("/static/none").json() == {"error": "no such page"}


def test_compiled_code_answers_as_interpreted(node):
    """LuaJIT compiles what runs often: nothing may change when it does."""
    paths = ["/text", "/json", "/status", "/nothing", "/set/html", "/set/json", "/redirect",
             "/params/a%20b/12/x/y", "/query?a=1&a=%32+3&b", "/int?n=9", "/cookies", "/headers",
             "/order/one", "/order/two", "/silent", "/end-early", "/object", "/named/1/x",
             "/none", "/empty-list"]
    first = {}
    with node.connect() as client:
        for turn in range(250):
            # Other routes between two turns of one, and the other way round.
            for path in paths if turn % 2 else [paths[turn % len(paths)]] * 10:
                r = client.get(path)
                seen = (r.status, r.body,
                        [h for h in r.headers if h[0] not in ("X-Request-Id", "Date")])
                assert first.setdefault(path, seen) == seen, path


def test_fixed_hook(node):
    r = node.get("/none")
    assert r.status == 404 and r.json() == {"error": "no such page"}


SHAPED = r"""
app:on_error(function(c, err)
    return { kind = err.kind, status = err.status, message = err.message, route = err.route,
             id = err.request_id == c:request_id(), value = type(err.value), details = err.details }, err.status
end)
app:get("/error", function() error("oops") end)
app:get("/table", function() error({ a = 1 }) end)
app:get("/fail", function(c) c:fail(409, "conflict", { a = 1 }) end)
app:get("/spin", function() while true do end end, { cpu_limit = "50ms" })
app:get("/result", function() return true end)
app:get("/slow", function() moonshine.sleep(10) end, { timeout = "100ms" })
app:get("/teapot", function(c) c:fail(418) end)
app:on(418, function(c, err) c:html("<b>" .. err.kind) end)
app:group("/g", function(c, proceed) c:set_header("X-Group", "1") return proceed(c) end, function(g)
    g:on(404, function(c, err) return "group " .. err.kind .. " " .. c:path() end)
    g:on(405, "no such method")
    g:get("/there", function() return "x" end)
    g:get("/teapot", function(c) c:fail(404, "inside") end)
end)
app:get("/broken-hook", function(c) c:fail(420) end)
app:on(420, function() error("hook broke") end)
"""


@pytest.fixture(scope="module")
def shaped(start_shared):
    return start_shared(SHAPED)


@pytest.mark.parametrize("path, kind, status, message", [
    ("/error", "error", 500, "app.lua:"),
    ("/table", "error", 500, "table"),
    ("/fail", "fail", 409, "conflict"),
    ("/spin", "cpu", 503, "cpu limit of 50 ms exceeded"),
    ("/result", "result", 500, "returned a boolean"),
    ("/slow", "timeout", 503, "timeout of 100 ms exceeded"),
])
def test_on_error(shaped, path, kind, status, message):
    r = shaped.get(path)
    err = r.json()
    assert r.status == status and err["kind"] == kind and err["status"] == status
    assert message in err["message"] and err["route"] == path and err["id"] is True


def test_hooks(shaped):
    r = shaped.get("/teapot")
    assert (r.status, r.text) == (418, "<b>fail")
    r = shaped.get("/g/none")
    assert (r.status, r.text, r.header("X-Group")) == (404, "group not_found /g/none", "1")
    assert shaped.get("/g/teapot").text == "group fail /g/teapot"
    r = shaped.request("DELETE", "/g/there", body=b"")
    assert (r.status, r.text) == (405, "no such method") and "GET" in r.header("Allow")
    assert shaped.get("/elsewhere").status == 404


def test_a_hook_that_fails(shaped):
    assert shaped.get("/broken-hook").status == 500
    shaped.wait_log("failure handling failed.*hook broke")
    assert shaped.get("/teapot").status == 418


AUTOMATIC = r"""
local function shape(c, err)
    return { status = err.status, kind = err.kind, method = c:method(), path = c:path(), ua = c:header("user-agent"),
             route = err.route, own = c:status() }
end
for _, status in ipairs { 400, 404, 405, 408, 413, 414, 431, 501, 505 } do app:on(status, shape) end
app:post("/small", function(c) return c:body() end, { body_limit = 10 })
app:get("/get", function() return "x" end)
"""


@pytest.fixture(scope="module")
def automatic(start_shared):
    return start_shared(AUTOMATIC, settings={"header_limit": "1k", "request_line_limit": "512"})


@pytest.mark.parametrize("head, status, kind", [
    (b"GET /%zz HTTP/1.1\r\nHost: x", 400, "bad_request"),
    (b"GET /none HTTP/1.1\r\nHost: x", 404, "not_found"),
    (b"POST /get HTTP/1.1\r\nHost: x\r\nContent-Length: 0", 405, "method"),
    (b"POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 11", 413, "too_large"),
    (b"GET /" + b"a" * 600 + b" HTTP/1.1\r\nHost: x", 414, "too_large"),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2000, 431, "too_large"),
    (b"GET /get HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade", 501, "bad_request"),
    (b"GET /get HTTP/3.0\r\nHost: x", 505, "bad_request"),
    (b"bad request", 400, "bad_request"),
])
def test_hooks_of_automatic_answers(automatic, head, status, kind):
    with automatic.connect() as client:
        client.send(head + b"\r\n\r\n")
        r = client.read_response()
        assert r.status == status
        assert r.json()["kind"] == kind and r.json()["own"] == status
    assert automatic.get("/get").text == "x"
