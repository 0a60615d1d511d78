"""Handler results, middleware, failures and how an app shapes them."""

import pytest

from support.client import Client

APP = r'''
app:get("/string", function() return "s" end)
app:get("/table", function() return { a = { 1, 2 }, n = moonshine.json.null } end)
app:get("/list", function() return moonshine.json.array {} end)
app:get("/nil", function() return nil end)
app:get("/nothing", function() end)
app:get("/status", function() return "made", 201 end)
app:get("/bad/number", function() return 42 end)
app:get("/bad/boolean", function() return true end)
app:get("/bad/function", function() return print end)
app:get("/bad/status", function() return "x", 99 end)
app:get("/bad/status-type", function() return "x", "200" end)
app:get("/bad/headers", function() return "x", 200, 7 end)
app:get("/bad/cycle", function() local t = {} t.t = t return t end)
app:get("/bad/value", function() return { f = print } end)
app:get("/bad/keys", function() return { 1, 2, x = 3 } end)

app:get("/error", function() error("secret detail") end)
app:get("/error-table", function() error({ code = 7 }) end)
app:get("/error-nil", function() error(nil) end)
app:get("/index-nil", function() local t; return t.x end)
app:get("/overflow", function() local function f() return 1 + f() end return f() end)
app:get("/co", function()
    local co = coroutine.wrap(function() error("inside") end)
    return co()
end)
app:get("/fail", function(c)
    c:fail(409, "already there", { field = "name" }, { ["X-Why"] = "dup" })
end)
app:get("/fail-after-headers", function(c)
    c:set_header("X-Kept", "1")
    c:set_header("ETag", '"x"')
    c:set_header("Cache-Control", "max-age=60")
    c:fail(410)
end)
app:get("/catch", function(c)
    local ok, err = pcall(c.fail, c, 418)
    return tostring(ok) .. type(err)
end)

local function mark(letter)
    return function(c, proceed)
        c:add_header("X-Trace", letter .. "<")
        local body, status = proceed(c)
        c:add_header("X-Trace", letter .. ">")
        return body, status
    end
end
app:group("/mw", mark "a", function(g)
    g:use(mark "b")
    g:get("/chain", mark "c", mark "d", function() return "end" end)
    g:get("/stop", function() return "stopped", 403 end,
        function() return "never" end)
    g:get("/nothing", function(c, proceed) proceed(c) end,
        function() return "inner", 201 end)
    g:get("/replace", function(c, proceed)
        local body, status = proceed(c)
        return body:upper(), status + 1
    end, function() return "inner", 201 end)
    g:get("/twice", function(c, proceed) proceed(c) return proceed(c) end,
        function() return "x" end)
    g:get("/wrong", function(_, proceed) return proceed({}) end,
        function() return "x" end)
    g:get("/catches", function(c, proceed)
        local ok, err = pcall(proceed, c)
        if not ok then return "caught " .. tostring(err.kind or err), 502 end
    end, function(c) c:fail(500, "x") end)
    g:get("/sees", function(c, proceed)
        proceed(c)
        c:set_header("X-Seen", c:status() .. " "
            .. tostring(c:response_header("X-Inner")))
    end, function(c) c:set_header("X-Inner", "i") c:status(201) return "x" end)
end)
app:get("/before", function() return "before" end)
app:use(mark "late")
app:get("/behind", function() return "behind" end)
'''


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP)


def test_results(node):
    assert node.get("/string").text == "s"
    table = node.get("/table")
    assert table.header("Content-Type") == "application/json"
    assert table.json() == {"a": [1, 2], "n": None}
    assert node.get("/list").text == "[]"
    assert node.get("/nil").status == 204
    assert node.get("/nothing").status == 204
    assert node.get("/status").status == 201


@pytest.mark.parametrize("kind", ["number", "boolean", "function", "status",
                                  "status-type", "headers", "cycle", "value",
                                  "keys"])
def test_bad_results_are_500(node, kind):
    with Client(node.address) as client:
        assert client.get(f"/bad/{kind}").status == 500
        assert client.get("/string").text == "s"
    node.wait_log(rf"(?s)/bad/{kind}")


@pytest.mark.parametrize("target", ["/error", "/error-table", "/error-nil",
                                    "/index-nil", "/overflow", "/co"])
def test_errors_are_500_and_leak_nothing(node, target):
    with Client(node.address) as client:
        response = client.get(target)
        assert response.status == 500
        for leak in (b"secret", b"app.lua", b"traceback", b"inside"):
            assert leak not in response.body
        assert client.get("/string").text == "s"


def test_the_log_has_what_the_body_has_not(node):
    response = node.get("/error")
    node.wait_log(r"app\.lua:\d+: secret detail")
    node.wait_log("stack traceback|traceback")
    node.wait_log(response.header("X-Request-Id"))


def test_fail(node):
    response = node.get("/fail", {"Accept": "application/json"})
    assert response.status == 409
    assert response.header("X-Why") == "dup"
    problem = response.json()
    assert problem["status"] == 409
    assert "already there" in str(problem)
    assert "name" in str(problem)


def test_fail_keeps_headers_but_not_those_of_another_body(node):
    response = node.get("/fail-after-headers")
    assert response.status == 410
    assert response.header("X-Kept") == "1"
    assert response.header("ETag") is None
    assert response.header("Cache-Control") is None


def test_a_wanted_failure_can_be_caught(node):
    assert node.get("/catch").text == "falsetable"


def test_chain(node):
    response = node.get("/mw/chain")
    assert response.text == "end"
    assert response.all("X-Trace") == \
        ["a<", "b<", "c<", "d<", "d>", "c>", "b>", "a>"]


def test_middleware_results(node):
    assert (node.get("/mw/stop").status, node.get("/mw/stop").text) == \
        (403, "stopped")
    inner = node.get("/mw/nothing")
    assert (inner.status, inner.text) == (201, "inner")
    replaced = node.get("/mw/replace")
    assert (replaced.status, replaced.text) == (202, "INNER")
    assert node.get("/mw/sees").header("X-Seen") == "201 i"


def test_middleware_misuse(node):
    assert node.get("/mw/twice").status == 500
    assert node.get("/mw/wrong").status == 500


def test_middleware_sees_failures(node):
    response = node.get("/mw/catches")
    assert (response.status, response.text) == (502, "caught fail")


def test_use_applies_to_later_routes_only(node):
    assert node.get("/before").all("X-Trace") == []
    assert node.get("/behind").all("X-Trace") == ["late<", "late>"]


SHAPED = r'''
app:on(404, { error = "no such page" })
app:on(405, "not like that")
app:on(418, function(c, err) return "hook " .. err.kind .. " " .. err.status, 418 end)
app:on_error(function(c, err)
    return { error = err.kind, request = c:request_id(),
             value = err.value and tostring(err.value):match("boom") }, err.status
end)
app:get("/boom", function() error("boom") end)
app:get("/teapot", function(c) c:fail(418, "tea") end)
app:get("/number", function() return 1 end)
app:get("/spin", function() while true do end end)
'''


def test_shaped_failures(start):
    node = start(SHAPED)
    missing = node.get("/nowhere")
    assert (missing.status, missing.json()) == (404, {"error": "no such page"})
    assert node.request("POST", "/boom").text == "not like that"
    assert node.request("POST", "/boom").status == 405
    assert node.get("/teapot").text == "hook fail 418"
    boom = node.get("/boom")
    assert boom.status == 500
    assert boom.json()["error"] == "error"
    assert boom.json()["request"] == boom.header("X-Request-Id")
    assert boom.json()["value"] == "boom"
    assert node.get("/number").json()["error"] == "result"
    spin = node.get("/spin")
    assert (spin.status, spin.json()["error"]) == (503, "cpu")


def test_an_error_in_the_error_handler(start):
    node = start('app:on_error(function() error("again") end)\n'
                 'app:get("/", function() error("first") end)\n'
                 'app:get("/ok", function() return "ok" end)')
    assert node.get("/").status == 500
    assert node.get("/ok").text == "ok"
    node.wait_log("first")
    node.wait_log("again")


def test_globals_are_caught(start):
    node = start('app:get("/write", function() leaked = 1 return "x" end)\n'
                 'app:get("/read", function() return tostring(undefned) end)\n'
                 'app:get("/exit", function() os.exit(1) end)\n'
                 'app:get("/ok", function() return "ok" end)')
    for target in ("/write", "/read", "/exit"):
        assert node.get(target).status == 500, target
    node.wait_log(r"app\.lua:1.*leaked|leaked.*app\.lua:1")
    node.wait_log("undefned")
    assert node.get("/ok").text == "ok"
