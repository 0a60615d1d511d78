"""moonshine.test, the kit of spec files and app:check; and line coverage."""

import re

import pytest

from support.node import ROOT, command, write_app
from support.specs import APP, run_spec, run_specs, sums


# ---- the kit ----

SESSIONS = """
app:get("/me", function(c) return { user = c:session():get("user"), all = c:session():all() } end)
app:post("/logout", function(c) c:session():destroy() end)
app:post("/login", function(c)
    c:session():renew()
    c:session():set("user", c:body())
end)
app:check(function(t)
    t.equal(t.request(app, "GET", "/me", { session = { user = "ann" } }):json().user, "ann")
end)
"""


def test_a_request_may_have_a_session(tmp_path):
    run_specs(tmp_path, {"app.lua": SESSIONS, "spec/a_spec.lua": """
it("has what the option says", function()
    local response = t.request(app, "GET", "/me", {
        session = { user = "ann", cart = { 1, 2 }, n = 0.5 }, headers = { cookie = "a=b" } })
    t.same(response:json(), { user = "ann", all = { user = "ann", cart = { 1, 2 }, n = 0.5 } })
    t.same(response:cookies(), {})
    t.same(t.request(app, "GET", "/me", { session = {} }):json(), { all = {} })
    t.same(t.request(app, "GET", "/me"):json(), { all = {} })
end)
it("has one of its own each time", function()
    local a = t.request(app, "POST", "/login", { session = { x = 1 }, body = "ann" })
    local b = t.request(app, "POST", "/login", { session = { x = 1 }, body = "bob" })
    assert(a:cookies().id.value ~= b:cookies().id.value)
end)
for _, scheme in ipairs { "http", "https" } do
    it("stays a client's, over " .. scheme, function()
        local client = t.client(app, { scheme = scheme })
        local name = scheme == "http" and "id" or "__Host-id"
        t.equal(client:get("/me", { session = { user = "ann" } }):json().user, "ann")
        t.equal(client:get("/me"):json().user, "ann")
        assert(#client:cookie(name) == 43)
        client:post("/login", { body = "bob" })
        t.equal(client:get("/me"):json().user, "bob")
        client:post("/logout")
        t.equal(client:cookie(name), nil)
        t.equal(client:get("/me"):json().user, nil)
    end)
end
it("ends in time", function()
    local client = t.client(app)
    client:get("/me", { session = { user = "ann" } })
    t.advance("29m")
    t.equal(client:get("/me"):json().user, "ann")
    t.advance("31m")
    t.equal(client:get("/me"):json().user, nil)
end)
"""})
    done = command("check", tmp_path)
    assert done.returncode == 0, done.stderr

def test_a_client_keeps_cookies(tmp_path):
    run_specs(tmp_path, {"app.lua": """
app:post("/login", function(c)
    c:set_cookie("sid", c:body(), { max_age = "10m" })
    c:set_cookie("admin", "1", { path = "/admin" })
    return c:redirect("/")
end)
app:post("/logout", function(c) c:set_cookie("sid", nil) end)
app:get("/*rest", function(c)
    return { cookies = c:cookies(), lang = c:header("Accept-Language"),
        agent = c:header("User-Agent"), scheme = c:scheme(), ip = c:ip(),
        host = c:host() }
end)
""", "spec/a_spec.lua": """
it("keeps and sends them", function()
    local client = t.client(app, { headers = { ["Accept-Language"] = "de" } })
    client.headers["User-Agent"] = "spec"
    local login = client:post("/login", { body = "abc" })
    t.equal(login.status, 303)
    t.equal(login:header("location"), "/")
    t.equal(login:cookies().sid.value, "abc")
    t.equal(login:cookies().sid.max_age, 600)
    t.equal(login:cookies().admin.path, "/admin")
    t.equal(client:cookie("sid"), "abc")
    local home = client:get("/"):json()
    t.same(home.cookies, { sid = "abc" })
    t.equal(home.lang, "de")
    t.equal(home.agent, "spec")
    t.same(client:get("/admin/x").status, 200)
    t.same(client:get("/admin/x"):json().cookies, { sid = "abc", admin = "1" })
    t.equal(client:get("/", { headers = { ["accept-language"] = "fr" } }):json().lang, "fr")
    t.same(t.client(app):get("/"):json().cookies, {})
    client:post("/logout")
    t.equal(client:cookie("sid"), nil)
end)
it("forgets them in time", function()
    local client = t.client(app)
    client:post("/login", { body = "abc" })
    t.advance("599s")
    t.same(client:get("/"):json().cookies, { sid = "abc" })
    t.advance("1s")
    t.same(client:get("/"):json().cookies, {})
end)
it("sends secure ones over https", function()
    local client = t.client(app, { scheme = "https" })
    t.equal(client:post("/login", { body = "x" }):cookies().sid.secure, true)
    t.same(client:get("/"):json().cookies, { sid = "x" })
    client.scheme = "http"
    t.same(client:get("/"):json().cookies, {})
end)
it("comes from where it says", function()
    local client = t.client(app, { ip = "2001:db8::7", host = "shop.test" })
    local seen = client:get("/"):json()
    t.same({ seen.ip, seen.scheme, seen.host }, { "2001:db8::7", "http", "shop.test" })
    t.equal(client:get("/", { ip = "192.0.2.1" }):json().ip, "192.0.2.1")
    client = t.client(app)
    client.ip = "192.0.2.9"
    t.equal(client:get("/"):json().ip, "192.0.2.9")
    t.equal(t.request(app, "GET", "/"):json().ip, "")
end)
it("has every method", function()
    local client = t.client(app)
    t.equal(client:head("/").status, 200)
    t.equal(client:head("/").body, "")
    for _, method in ipairs { "put", "patch", "delete" } do
        t.equal(client[method](client, "/").status, 405)
    end
    t.match(client:options("/"):header("Allow"), "GET")
    t.equal(client:request("GET", "/x").status, 200)
end)
"""})


def test_files_are_sent_as_browsers_do(tmp_path):
    run_specs(tmp_path, {"app.lua": """
app:post("/raw", function(c) return c:header("Content-Type") .. "\\n" .. c:body() end)
app:post("/read", function(c)
    local file = c:upload("one")
    return { c:form("title"), file.filename, file.type, file:read() }
end)
""", "spec/a_spec.lua": """
it("sends what the app can read", function()
    local r = t.request(app, "POST", "/read", {
        form = { title = "moon" },
        files = { one = { filename = "a.txt", type = "text/plain", data = "\\0data" } },
    })
    t.same(r:json(), { "moon", "a.txt", "text/plain", "\\0data" })
end)
it("sends the bytes", function()
    local r = t.request(app, "POST", "/raw", {
        form = { title = "a & b", tag = { "x", "y" } },
        files = {
            one = { filename = 'a "b".txt', type = "text/plain", data = "line\\r\\n\\0end" },
            two = { { data = "" }, { filename = "c", data = "--x" } },
        },
    })
    local boundary, body = r.body:match("^multipart/form%-data; boundary=(%S+)\\n(.*)$")
    t.equal(body, table.concat({
        "--" .. boundary, 'Content-Disposition: form-data; name="tag"', "", "x",
        "--" .. boundary, 'Content-Disposition: form-data; name="tag"', "", "y",
        "--" .. boundary, 'Content-Disposition: form-data; name="title"', "", "a & b",
        "--" .. boundary, 'Content-Disposition: form-data; name="one"; filename="a %22b%22.txt"',
        "Content-Type: text/plain", "", "line\\r\\n\\0end",
        "--" .. boundary, 'Content-Disposition: form-data; name="two"; filename="two"',
        "Content-Type: application/octet-stream", "", "",
        "--" .. boundary, 'Content-Disposition: form-data; name="two"; filename="c"',
        "Content-Type: application/octet-stream", "", "--x",
        "--" .. boundary .. "--", "" }, "\\r\\n"))
end)
it("sends other bodies", function()
    local function sent(options) return t.request(app, "POST", "/raw", options).body end
    t.equal(sent { json = { a = 1 } }, 'application/json\\n{"a":1}')
    t.equal(sent { form = { b = "x y", a = { 1, 2 } } },
        "application/x-www-form-urlencoded\\na=1&a=2&b=x%20y")
    t.equal(sent { body = "raw", headers = { ["content-type"] = "text/odd" } }, "text/odd\\nraw")
end)
"""})


def test_a_cut_response_is_an_error(tmp_path):
    text = run_specs(tmp_path, {"app.lua": """
app:get("/", function(c)
    c:stream(function(write) write("half") error("broken off") end)
end)
""", "spec/a_spec.lua": """
it("reads it", function() t.request(app, "GET", "/") end)
"""}, code=1).stdout
    assert "GET /: the response ended in the middle of its body" in text


def test_time_travel(tmp_path):
    run_specs(tmp_path, {"app.lua": """
local order = {}
moonshine.every("10s", function() table.insert(order, "ten") end)
moonshine.every("25s", function() table.insert(order, "twenty-five") end)
app:get("/order", function() return order end)
app:get("/slow", function() moonshine.sleep("1h") return moonshine.http_time() end)
app:get("/fast", function() return moonshine.http_time() end)
app:post("/large", function(c)
    moonshine.sleep("1h")
    return tostring(#c:body())
end, { body_limit = "10m" })
""", "spec/a_spec.lua": """
it("runs timers in order", function()
    t.advance("50s")
    t.same(t.request(app, "GET", "/order"):json(),
        { "ten", "ten", "twenty-five", "ten", "ten", "ten", "twenty-five" })
end)
it("wakes handlers", function()
    local before = moonshine.http_time(t.request(app, "GET", "/fast").body)
    local tasks = {}
    for i = 1, 20 do
        tasks[i] = moonshine.spawn(function() return t.request(app, "GET", "/slow").body end)
    end
    t.advance("1h")
    for _, task in ipairs(tasks) do
        local ok, text = task:wait("20s")
        assert(ok, text)
        t.equal(moonshine.http_time(text) >= before + 3600, true)
    end
end)
it("waits for bodies that go to a file", function()
    local body = ("x"):rep(5e6)
    local task = moonshine.spawn(function()
        return t.request(app, "POST", "/large", { body = body }).body
    end)
    t.advance("1h")
    t.same({ task:wait("20s") }, { true, "5000000" })
end)
it("does not move the limit of a test", function()
    t.advance("2d")
end)
"""})


def test_rate_limits_follow_the_moved_clock(tmp_path):
    run_specs(tmp_path, {"app.lua": """
local few = moonshine.limit.token_bucket { rate = 2, per = "1m" }
local late = moonshine.limit.leaky_bucket { rate = 1, per = "10s", burst = 2 }
app:get("/few", few, function() return "few" end)
app:get("/late", late, function() return "late" end)
""", "spec/a_spec.lua": """
local function status(path, ip) return t.request(app, "GET", path, { ip = ip }).status end
it("fills again", function()
    t.same({ status("/few"), status("/few"), status("/few") }, { 200, 200, 200 })
    local a, b = "192.0.2.1", "192.0.2.2"
    t.same({ status("/few", a), status("/few", a), status("/few", a) }, { 200, 200, 429 })
    t.same({ status("/few", b), status("/few", a) }, { 200, 429 })
    t.advance("30s")
    t.same({ status("/few", a), status("/few", a) }, { 200, 429 })
end)
it("delays", function()
    local order = {}
    for i = 1, 3 do
        moonshine.spawn(function()
            table.insert(order, i .. " " .. status("/late", "192.0.2.3"))
        end)
    end
    t.advance("9s")
    t.same(order, { "1 200" })
    t.advance("11s")
    t.same(order, { "1 200", "2 200", "3 200" })
end)
"""})


def test_the_log_of_a_test(tmp_path):
    text = run_spec(tmp_path, """
it("has nothing yet", function() t.same(t.log(), {}) end)
it("has what was logged", function()
    t.request(app, "GET", "/warn")
    local log = t.log()
    local warning = log[1]
    t.equal(warning.level, "warn")
    t.equal(warning.message, "careful")
    t.equal(warning.fields.n, 7)
    t.equal(warning.fields.why, "two words")
    t.same(warning.fields.list, { 1 })
    t.equal(warning.fields.route, "/warn")
    t.equal(log[2].level .. #log, "info2")
end)
it("starts anew with each test", function()
    t.same(t.log(), {})
    for i = 1, 1100 do moonshine.log.info("line", { i = i }) end
    t.equal(#t.log(), 1000)
end)
""")
    assert sums(text) == (3, 0, 0, 0)
    assert "careful" not in text  # nothing failed


def test_the_kit_does_nothing_in_a_serving_node(start):
    node = start("""
local t = require "moonshine.test"
for _, name in ipairs { "advance", "log" } do
    app:get("/" .. name, function()
        local ok, message = pcall(t[name], 1)
        return { ok, message }
    end)
end
app:get("/who", function(c)
    return { c:ip(), c:scheme(), c:header("Moonshine-Test-Peer") }
end)
""")
    for name in ("advance", "log"):
        ok, message = node.get("/" + name).json()
        assert not ok
        assert message.endswith("only inside app:check and moonshine test")
    headers = {"Moonshine-Test-Peer": "192.0.2.1", "Moonshine-Test-Scheme": "https"}
    assert node.get("/who", headers).json() == ["127.0.0.1", "http", "192.0.2.1"]


def test_the_fields_of_the_kit_are_not_seen_by_the_app(tmp_path):
    run_specs(tmp_path, {"app.lua": 'app:get("/", function(c) return c:headers() end)',
                         "spec/a_spec.lua": """
it("sees no more than usual", function()
    local r = t.request(app, "GET", "/", { ip = "192.0.2.1", scheme = "https" })
    t.same(r:json(), { host = "app.test", connection = "close" })
end)
"""})


def test_an_app_check_has_the_same_kit(tmp_path):
    app = APP + """
app:check(function(t)
    local client = t.client(app, { ip = "192.0.2.1" })
    t.equal(client:get("/users/7").status, 200)
    client:get("/warn")
    t.equal(#t.log(), 2)
    t.advance("1h")
    t.same({ a = 1 }, { a = 2 })
end)
"""
    done = command("check", write_app(tmp_path, app))
    assert done.returncode == 1
    assert "app.lua:20: the values differ (- expected, + actual)\n  {\n" \
        "-   a = 2,\n+   a = 1,\n  }\n" in done.stderr
    assert "careful" in done.stderr  # and lines are written as ever


@pytest.mark.parametrize("name", ["demo", "todo"])
def test_our_applications_pass_their_own_tests(name):
    done = command("test", ROOT / "apps" / name)
    assert done.returncode == 0, done.stdout
    assert sums(done.stdout)[0] >= 6


# ---- coverage ----

COVERED = {"app.lua": """
local sums = require "sums"
app:get("/", function(c)
    if c:query("twice") then
        return sums.twice(2)
    end
    return "once"
end)
""", "lib/sums.lua": """
local M = {}
function M.twice(n)
    local result = n * 2
    return tostring(result)
end
function M.unused(n)
    local result = n * 3
    return result
end
return M
""", "lib/unloaded.lua": "local x = 1\nreturn x\n", "config.lua": "timeout = '9s'",
           "spec/a_spec.lua": 'it("a", function() t.request(app, "GET", "/") end)',
           "spec/b_spec.lua": 'it("b", function() '
                              't.request(app, "GET", "/?twice=1") end)'}


def test_coverage_of_the_application(tmp_path):
    def rows(*args):
        text = run_specs(tmp_path, COVERED, "--coverage", *args).stdout
        return [line.split() for line in text[text.index("\nfile "):].splitlines()]

    table = rows()
    assert [row[0] for row in table[2:]] == [
        "app.lua", "lib/sums.lua", "lib/unloaded.lua", "total"]
    assert table[2][1:] == ["7", "7", "100.0%"]
    assert table[3][1:] == ["8", "6", "75.0%", "8-9"]
    assert table[4][1:] == ["2", "0", "0.0%", "1-2"]
    assert table[5][1:] == ["17", "13", "76.5%"]
    assert rows("--filter", "a")[2][1:] == ["7", "6", "85.7%", "5"]


def read_coverage(directory, name):
    """Lines that ran of a file, over all reports."""
    ran = set()
    for report in directory.iterdir():
        text = report.read_text()
        for line in re.findall(rf"^file {name}\ncan .*\nran (.*)$", text, re.M):
            for piece in line.split():
                first, _, last = piece.partition("-")
                ran.update(range(int(first), int(last or first) + 1))
    return ran


def test_coverage_of_a_node(start, tmp_path):
    """Every process reports at its end; limits hold; a reload starts anew."""
    before = """
app:get("/a", function()
    return "a"
end)
app:get("/spin", function()
    while true do end
end)
"""
    node = start(before, workers=2, env={"MOONSHINE_COVERAGE": str(tmp_path)},
                 settings={"cpu_limit": "100ms"})
    assert node.get("/a").text == "a"
    assert node.get("/spin").status == 503
    node.rewrite(before.replace('app:get("/a"', '\n\napp:get("/b"'))
    assert "generation 2" in node.command("reload").stdout
    assert node.get("/b").text == "a"
    node.stop()
    # Two workers, a probe for each load.
    assert len(list(tmp_path.iterdir())) == 4
    ran = read_coverage(tmp_path, "app.lua")
    assert 5 in ran and 3 not in ran  # the lines of the code that came last
    assert read_coverage(tmp_path, "moonshine/chain.lua")
