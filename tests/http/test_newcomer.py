"""What people get wrong in their first hour, and what they are told: where it
is, what was wrong, and what to write instead."""

import re

import pytest

from support.node import command, eventually, write_app

HTML = {"Accept": "text/html"}
FIRST = 'local moonshine = require "moonshine"\nlocal app = moonshine.app()\n'
FILES = {
    "silent.lua": 'local M = {}\nfunction M.hello() return "x" end\n',
    "users.lua": "return {}", "lib/orders/list.lua": "return {}",
    "a.lua": 'return require "b"', "b.lua": 'return require "a"',
    "bad.lua": "local x = = 1",
}

# Line 3 of app.lua, and what `check` says about it.
LOAD = {
    # what app.lua returns
    "no return": ("", "app.lua:3: app.lua must end with `return app`, where "
                  "app = moonshine.app(); it returned nothing"),
    "a table": ("return { get = 1 }", "app.lua:3: app.lua must end with "
                "`return app`, where app = moonshine.app(); it returned a "
                "table"),
    "the module": ("return moonshine", "it returned the module moonshine"),
    # routes
    "no slash": ('app:get("users", print)', 'app.lua:3: the path "users" must '
                 'start with /: "/users"'),
    "a dot": ('app.get("/", print)',
              "app.lua:3: call it with a colon: app:get(path, handler)"),
    "use with a dot": ("app.use(print)",
                       "app.lua:3: call it with a colon: app:use(middleware)"),
    "group with a dot": ('app.group("/x", print)', "app.lua:3: call it with a "
                         "colon: app:group(prefix, "
                         "function(group) ... end)"),
    "on with a dot": ("app.on(404, print)", "app.lua:3: call it with a colon: "
                      "app:on(status, function(c, err) ... end)"),
    "a text": ('app:get("/", "hello")', "app.lua:3: / takes a handler "
               "function, not a string: to answer a fixed text, "
               'function() return "text" end'),
    "nil": ('local M = {} app:get("/", M.show)', "app.lua:3: / takes a handler "
            "function, not nil: is it defined above this line, and spelled "
            "so?"),
    "options only": ('app:get("/", { name = "x" })', "not a table: options "
                     "come behind the handler"),
    "options first": ('app:get("/", { name = "x" }, print)',
                      "app.lua:3: middleware must be a function(c, proceed), "
                      "not a table: options come behind the handler"),
    "twice": ('app:get("/a", print) app:get("/a", print)',
              "app.lua:3: GET /a is registered twice, first at app.lua:3"),
    "braces": ('app:get("/users/{id}/x", print)', "app.lua:3: a parameter is "
               'written :id, not {id}: "/users/:id/x"'),
    "angles": ('app:get("/users/<int:id>", print)', "app.lua:3: a parameter is "
               'written :int, not <int:id>'),
    "a prefix": ('app:use("/admin", print)', "app.lua:3: middleware must be a "
                 "function(c, proceed), not a string: for a prefix, "
                 'app:group("/admin", middleware, function(group) ... end)'),
    "a call": ("local function m() end app:use(m())", "app.lua:3: use() "
               "takes middleware: functions (c, proceed), given without ()"),
    "a middleware that is not there": ("local M = {} app:use(M.auth)",
               "app.lua:3: middleware must be a function(c, proceed), not nil: "
               "is it defined above this line, and given without ()?"),
    "a wrong option": ('app:get("/", print, { tiemout = 1 })', "app.lua:3: a "
                       "route has no option 'tiemout', did you mean "
                       "'timeout'?"),
    "a status as text": ('app:on("404", print)', "app.lua:3: on(): the status "
                         'must be a number from 400 to 599, not "404"'),
    # names
    "swapped letters": ('app:gte("/", print)', "app.lua:3: an app has no "
                        "method 'gte', did you mean 'get'?"),
    "listen": ("app:listen(8080)", "app.lua:3: an app has no method 'listen': "
               "the command serves: moonshine run"),
    "before_filter": ("app:before_filter(print)", "app.lua:3: an app has no "
                      "method 'before_filter': app:use(function(c, proceed)"),
    "new": ("local app = moonshine.new()",
            "app.lua:3: moonshine has no 'new': moonshine.app()"),
    "a call of the module": ("local app = moonshine()", "app.lua:3: moonshine "
                             "is a module, not a function: "
                             "local app = moonshine.app()"),
    "routes of the module": ('moonshine.get("/", print)', "app.lua:3: "
                             "moonshine has no 'get': routes are added to an "
                             "app"),
    "a global": ("local x = moonshin.app()", "app.lua:3: the global 'moonshin' "
                 "is not defined, did you mean 'moonshine'?"),
    "a local": ('local users = 1 local function f() return usres, users end f()',
                "app.lua:3: the global 'usres' is not defined, did you mean "
                "'users'?"),
    "ngx": ('ngx.say("x")', "app.lua:3: the global 'ngx' is not defined: ngx "
            "is OpenResty's and not here: a handler gets c"),
    "a wait": ("moonshine.sleep(1)", "app.lua:3: moonshine.sleep: not while "
               "loading: use app:on_start"),
    # modules
    "a typo of a module": ('require "uesrs"', "app.lua:3: module 'uesrs' not "
                           "found, did you mean 'users'?"),
    "a module in a folder": ('require "order.list"', "app.lua:3: module "
                             "'order.list' not found, did you mean "
                             "'orders.list'?"),
    "a file name": ('require "./lib/orders/list.lua"', "a module is named "
                    "without .lua and with dots for slashes: "
                    'require "orders.list"'),
    "a rock": ('require "inspect"', "app.lua:3: module 'inspect' not found: if "
               "it is yours, it goes to inspect.lua or lib/inspect.lua; from "
               "LuaRocks: luarocks install --lua-version 5.1 --tree "
               "lua_modules inspect"),
    "a rock of another name": ('require "pl.pretty"', "lua_modules penlight"),
    "resty": ('require "resty.redis"', "app.lua:3: module 'resty.redis' not "
              "found: it is for OpenResty and needs ngx"),
    "socket": ('require "socket.http"', "moonshine.tcp() does not"),
    "a circle": ('require "a"',
                 "module 'a' requires itself: a requires b, which requires a"),
    "a bad module": ('require "bad"', "bad.lua:1: unexpected symbol near '='"),
    "no return in a module": ('local s = require "silent" s.hello()',
                              "app.lua:3: attempt to index local 's' (a "
                              "boolean value); silent.lua returns nothing: end "
                              "it with a return, such as return M"),
    "no return, used at once": ('require("silent").hello()',
                                "silent.lua returns nothing"),
    # other languages
    "!=": ("local x = 1 != 2", "app.lua:3: unexpected symbol near '!'; not "
           "equal is ~= in Lua"),
    "+=": ("local x = 1 x += 1", "app.lua:3: '=' expected near '+'; Lua has no "
           "+=: n = n + 1"),
    "continue": ("for i = 1, 2 do continue end",
                 "Lua has no continue: goto continue"),
    "const": ("const x = 1", "variables are declared with local in Lua"),
    "no end": ('app:get("/", function() if true then return 1 end)',
               "app.lua:3: unexpected symbol near ')'; is an `end` missing "
               "before it?"),
    "no parenthesis": ('app:get("/", function() return 1 end',
                       "')' expected (to close '(' at line 3)"),
}


@pytest.mark.parametrize("name", LOAD)
def test_check_says(tmp_path, name):
    source, wanted = LOAD[name]
    text = FIRST + source + "\n"
    if not source.startswith("return") and source:
        text += "return app\n"
    done = command("check", write_app(tmp_path, {"app.lua": text, **FILES}))
    assert done.returncode == 1, done
    assert wanted in done.stderr, done.stderr
    first = done.stderr.splitlines()[0]
    assert re.match(r"error: (app|bad)\.lua:\d+: |error: .*module", first), first
    assert "moonshine/" not in done.stderr


# A handler for / (with what it needs before it), and what the log says.
FAILS = {
    "a number": ("return 42", "app.lua:3: the handler returned a number; it "
                 "may return a string, a table or nil: as text, return "
                 r"tostring\(number\)"),
    "a status alone": ("return 404", "a status comes second: "
                       'return "text", 404'),
    "a boolean": ("return true", "the handler returned a boolean; .*: as JSON, "
                  "return { ok = true }"),
    "a function": ("return print", "the handler returned a function; .*: call "
                   "it, or return what it returns"),
    "a userdata": ("return io.stdout", "the handler returned a userdata; it "
                   "may return a string, a table or nil"),
    "a method": ("return c.body", r"the handler returned a function; .*: "
                 r"c\.body is a method: c:body\(\)"),
    "a function in JSON": ("return { deep = { f = print } }", "the handler's "
                           r"table is no JSON: cannot encode function at "
                           r"\.deep\.f"),
    "a status as text": ('return "x", "404"', "the handler's second result "
                         "must be a status from 200 to 999, not a string: "
                         "write 404, without quotes"),
    "the status first": ('return 404, "x"', "the body comes first, then the "
                         "status"),
    "c.params": ("return c.params.id", "app.lua:3: c has no method 'params', "
                 r'did you mean \'param\'\? c:param\("id"\)'),
    "c.param.id": ("return c.param.id", "app.lua:3: attempt to index field "
                   r"'param' \(a function value\); c.param is a method: "
                   r'c:param\("id"\)'),
    "c.query.x": ("local x = c.query.x", r'c\.query is a method: '
                  r'c:query\("x"\)'),
    "ctx.query.x": ("local ctx = c local x = ctx.query.x",
                    r'ctx\.query is a method: ctx:query\("x"\)'),
    "c.headers": ('local x = c.headers["User-Agent"]', r"c\.headers is a "
                  r'method: c:header\("User-Agent"\)'),
    "c.body": ('return "<" .. c.body', r"c\.body is a method: c:body\(\)"),
    "c.method()": ("return c.method()", r"app.lua:3: call it with a colon: "
                   r"c:method\(...\), not c\.method\(...\)"),
    "c.query()": ('local x = c.query("x")', r"app.lua:3: call it with a colon: "
                  r"c:query\(...\), not c\.query\(...\)"),
    "c.status()": ("c.status(404)", r"app.lua:3: call it with a colon: "
                   r"c:status\(...\), not c\.status\(...\)"),
    "c.json{}": ("return c.json { a = 1 }", r"call it with a colon: "
                 r"c:json\(...\), not c\.json\(...\)"),
    "c:jsn": ("return c:jsn {}", "c has no method 'jsn', did you mean 'json'?"),
    "c.req": ("return c.req.method", "c has no method 'req': what you look for "
              r"is on c itself: c:method\(\)"),
    "c:send": ('c:send("x")', "c has no method 'send': return the text, or "
               r"c:text\(text\)"),
    "c:next": ("c:next()", "c has no method 'next': a middleware gets the rest "
               r"of the chain: proceed\(c\)"),
    "c.status =": ("c.status = 404", "c.status cannot be assigned, it is a "
                   r"method: c:status\(404\)"),
    "c.body =": ('c.body = "x"', "c.body cannot be assigned: return the body"),
    "c.user =": ('c.user = "x"', "c.user cannot be assigned; keep it with "
                 r'c:set\("user", value\)'),
    "moonshine.respnd": ('moonshine.respnd("x")', "moonshine has no 'respnd'; "
                         "it has all app .* sleep spawn"),
    "moonshine.jsn": ("return moonshine.jsn.encode {}", "moonshine has no "
                      "'jsn', did you mean 'json'?"),
    "a global": ("count = 1", "assignment to the new global 'count': make it "
                 "local, or state of the module"),
    "cjson": ("return cjson.encode {}", "the global 'cjson' is not defined: "
              "moonshine.json"),
    "ngx": ('ngx.say("x")', "the global 'ngx' is not defined: ngx is "
            "OpenResty's"),
    "require": ('return require "nowhere"', "app.lua:3: module 'nowhere' not "
                "found: if it is yours"),
    "a silent module": ('local m = require "silent" return m.hello()',
                        "silent.lua returns nothing: end it with a return"),
    "what was not sent": ('return "hi " .. c:query("who")', r'c:query\("who"\) '
                          r"is nil when it is not there: "
                          r'c:query\("who", "default"\)'),
    "no such parameter": ('return { c:param("id") + 1 }', r'c:param\("id"\) is '
                          "nil: the pattern of this route has no :id"),
    "a thrown table": ("error({ code = 7 })",
                       r"error is a table: \{ code = 7 \}"),
    "error without a message": ("error()", "error without a message: nil"),
    "a yield": ("coroutine.yield()", "attempt to yield from outside a "
                "coroutine"),
    "a duration": ('moonshine.sleep("soon")', "moonshine.sleep: the time "
                   'must be a duration such as 2 or "250ms", not "soon"'),
}

# Middleware, on line 3.
MIDDLEWARE = {
    "proceed()": ("return proceed()", r"app.lua:3: proceed\(c\) takes the "
                  "context c, not nil: the middleware outer calls it so"),
    "proceed() and more": ("local x = proceed() return x", r"app.lua:3: "
                           r"proceed\(c\) takes the context c, not nil"),
    "proceed twice": ("proceed(c) return proceed(c)", r"app.lua:3: "
                      r"proceed\(c\) may be called once: the middleware outer "
                      "calls it again"),
    "a number": ("return 5", "app.lua:3: the middleware outer returned a "
                 "number"),
}


def app_of(cases, line):
    """An app with a route for each case, as if it were alone in the file."""
    parts = {"app.lua": FIRST + 'for _, m in ipairs { %s } do\n'
             '    require(m)(app)\nend\nreturn app\n'
             % ", ".join(f'"case{n}"' for n in range(len(cases))), **FILES}
    for number, (source, _) in enumerate(cases.values()):
        parts[f"case{number}.lua"] = line.replace("PATH", f"/{number}") \
            .replace("SOURCE", source)
    return parts


HANDLER = ('local moonshine = require "moonshine"\nreturn function(app)\n'
           'app:get("PATH", function(c) SOURCE end)\nend\n')
CHAIN = ('local moonshine = require "moonshine"\nreturn function(app)\n'
         'local function outer(c, proceed) SOURCE end\n'
         'app:get("PATH", outer, function() return "inner" end)\nend\n')


@pytest.fixture(scope="module")
def nodes(start_shared):
    return {(kind, dev): start_shared(app_of(cases, line), *dev)
            for kind, cases, line in (("handler", FAILS, HANDLER),
                                      ("chain", MIDDLEWARE, CHAIN))
            for dev in ((), ("--dev",))}


@pytest.mark.parametrize("kind, name", [
    *(("handler", name) for name in FAILS),
    *(("chain", name) for name in MIDDLEWARE)])
def test_the_log_and_the_page_say(nodes, kind, name):
    cases = FAILS if kind == "handler" else MIDDLEWARE
    number = list(cases).index(name)
    wanted = cases[name][1].replace("app.lua", f"case{number}.lua")
    for dev in ((), ("--dev",)):
        node = nodes[kind, dev]
        answer = node.get(f"/{number}", HTML)
        assert answer.status == 500
        line = node.wait_log(r"request failed: .*(\n  .*)*request_id="
                             + answer.header("X-Request-Id"))[0]
        assert re.search(wanted, line), line
        assert re.search(r"case\d+\.lua:3: |error ", line), line
        assert "moonshine/" not in line
        told = re.sub("<[^>]*>", "", answer.text).replace("&quot;", '"') \
            .replace("&#39;", "'").replace("&lt;", "<")
        pattern = re.sub(r"^case\d+\.lua:3: ", "", wanted)
        assert bool(re.search(pattern, told)) is bool(dev), told


# What is no error, but hardly meant: told with --dev only.
HINTS = {
    "a middleware without proceed": (
        CHAIN, 'c:set_header("X", "y")', 204, "warn .*case0.lua:3: the "
        r"middleware outer neither called proceed\(c\) nor answered, so the "
        "handler did not run: answered 204"),
    "a middleware without a name": (
        CHAIN.replace("local function outer", "local outer = {} outer.x = "
                      "function").replace(", outer,", ", outer.x,"),
        "", 204, r"the middleware outer\.x neither called proceed\(c\)"),
    "two answers": (
        HANDLER, 'c:json { a = 1 } return "text"', 200, "warn .*case0.lua:3: "
        "the handler returned a string, so what c:json has set is not sent"),
    "nothing": (HANDLER, "local x = 1", 204, "debug .*case0.lua:3: the handler "
                "returned nothing: answered 204"),
    "a status alone": (
        HANDLER, "return nil, 404", 404, "case0.lua:3: the handler answered "
        r"404 without a body; c:fail\(404\) sends one"),
}


@pytest.mark.parametrize("name", HINTS)
def test_hints(start, name):
    line, source, status, wanted = HINTS[name]
    app = app_of({name: (source, "")}, line)
    node = start(app, "--dev")
    assert node.get("/0").status == status
    node.wait_log("hint: ")
    assert re.search(wanted, node.log()), node.log()
    node = start(app)
    assert node.get("/0").status == status
    assert "hint: " not in node.log()


def test_no_hint_for_what_was_meant(start):
    node = start('''
app:use(function(c, proceed)
    if c:path() == "/shut" then c:status(403) return end
    if c:path() == "/text" then c:text("mine") return end
    proceed(c)
end)
app:get("/json", function(c) c:json { a = 1 } end)
app:get("/text", function() return "never" end)
app:get("/plain", function() return "x" end)
app:get("/redirect", function(c) c:redirect("/plain") end)
app:get("/empty", function(c) c:status(204) end)
''', "--dev")
    for path, status in (("/json", 200), ("/text", 200), ("/plain", 200),
                         ("/redirect", 302), ("/empty", 204)):
        assert node.get(path).status == status
    assert "hint: " not in node.log()


def test_c_after_the_request(start):
    node = start('''
app:get("/", function(c)
    moonshine.spawn(function() moonshine.sleep("10ms") c:json {} end)
    return "ok"
end)''')
    assert node.get("/").text == "ok"
    node.wait_log(r"spawned task failed: app.lua:3: c is used after its "
                  r"request ended: take what you need from it before, such as "
                  r'local id = c:param\("id"\)')


def test_a_handler_that_blocks(start):
    node = start('''
app:get("/", function()
    local ends = os.clock() + 0.15
    while os.clock() < ends do end
    return "done"
end, { cpu_limit = "5s" })''')

    def warned():
        assert node.get("/").text == "done"
        return "slow slice" in node.log()
    eventually(warned, "the slow slice is told")
    node.wait_log(r"slow slice: \d+ ms without yielding, while nobody else ran "
                  r"on this worker: route / \(app\.lua:2\), request ")


def test_a_call_that_blocks(start):
    node = start('app:get("/", function() os.execute("true") end)')
    node.get("/")
    node.wait_log("os.execute blocks this worker while it runs, at app.lua:1")


def test_run_in_an_empty_directory(tmp_path):
    for verb in ("run", "check", "routes"):
        done = command(verb, cwd=tmp_path)
        assert done.returncode == 1, done
        assert f"there is no app.lua in {tmp_path}" in done.stderr
        assert 'app:get("/", function() return' in done.stderr
    (tmp_path / "main.lua").write_text("return 1")
    done = command("run", cwd=tmp_path)
    assert f"to serve that: moonshine run {tmp_path}/main.lua" in done.stderr


def test_what_it_says_to_put_there_works(start, tmp_path):
    done = command("check", cwd=tmp_path)
    code = re.search(r"(    local moonshine .*?return app\n)", done.stderr,
                     re.S)[1]
    (tmp_path / "app.lua").write_text(code)
    assert start(tmp_path).get("/").text == "Hello, World!\n"


def test_hints_name_methods_that_exist(start):
    """What the tables of names from elsewhere point to is there."""
    node = start('''
local foreign = require "moonshine.foreign"
local owners = { c = require("moonshine.context").methods, moonshine = moonshine, app = app }
app:get("/", function()
    local checked, missing = 0, moonshine.json.array {}
    for _, entries in pairs(foreign) do
        for name, text in pairs(entries) do
            for owner, method in text:gmatch("(%a+)[:.]([%a_]+)%(") do
                local found = owners[owner] and pcall(function()
                    return assert(owners[owner][method])
                end)
                checked = checked + (owners[owner] and 1 or 0)
                if owners[owner] and not found then
                    table.insert(missing, name .. ": " .. text)
                end
            end
        end
    end
    local real = { context = owners.c, module = moonshine,
        app = require("moonshine.scope").Scope }
    for kind, there in pairs(real) do
        for name in pairs(foreign[kind]) do
            if rawget(there, name) then
                table.insert(missing, kind .. "." .. name .. " exists")
            end
        end
    end
    return { checked = checked, missing = missing }
end)''')
    told = node.get("/").json()
    assert told["missing"] == [] and told["checked"] > 50
