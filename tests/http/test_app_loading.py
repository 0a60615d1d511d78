"""Modules, globals, and what a broken app.lua is told."""

import re

import pytest

MODULES = {
    "app.lua": r"""
local moonshine = require "moonshine"
local app = moonshine.app()
local a, dir, lib, rock = require "a", require "dir", require "deep.lib", require "rock"
app:get("/", function() return { a.name, dir.name, lib.name, rock.name, a == require "a" } end)
app:get("/lazy", function() return { require("lazy").name } end)
app:get("/missing", function() return require "missing" end)
app:get("/broken", function() return require "broken" end)
app:get("/spinning", function() return require "spinning" end, { cpu_limit = "50ms" })
app:get("/loop", function() return require "loop" end)
app:get("/rock-global", function() return { rock.reads() == nil } end)
app:get("/read", function() return moonshine.read("data.txt") end)
app:get("/load", function() return { (loadstring "return 1 + 1")(), load("syntax error here") == nil } end)
return app
""",
    "a.lua": 'return { name = "a" }',
    "dir/init.lua": 'return { name = "dir" }',
    "lib/deep/lib.lua": 'return { name = "lib" }',
    "lua_modules/share/lua/5.1/rock.lua":
        'return { name = "rock", reads = function() return surely_undefined end }',
    "lazy.lua": 'return { name = "lazy" }',
    "broken.lua": 'error("broken module")',
    "spinning.lua": "while true do end",
    "loop.lua": 'require "loop"',
    "data.txt": "data",
}


@pytest.fixture(scope="module")
def modules(start_shared):
    return start_shared(MODULES)


def test_modules(modules):
    assert modules.get("/").json() == ["a", "dir", "lib", "rock", True]
    assert modules.get("/lazy").json() == ["lazy"]
    assert modules.get("/missing").status == 500
    modules.wait_log(r"module 'missing' not found")
    for _ in range(2):
        assert modules.get("/broken").status == 500
        assert modules.get("/spinning").status == 503
        assert modules.get("/loop").status == 500
    assert len(re.findall("request failed: .*broken module", modules.log())) == 2
    assert modules.log().count("cpu limit of 50 ms") >= 2
    assert modules.get("/rock-global").json() == [True]
    assert modules.get("/read").text == "data"
    assert modules.get("/load").json() == [2, True]


LOAD_ERRORS = [
    ('app:get("/x", print)\napp:get("/x", print)',
     "app.lua:2: GET /x is registered twice, first at app.lua:1"),
    ('app:group("/api", function(c, proceed) return proceed(c) end)',
     "app.lua:1: group(): the last argument must be a function(group), and "
     "this one looks like middleware"),
    ('app:get("x", print)', 'app.lua:1: the path "x" must start with /'),
    ('app:get("/-/x", print)', 'app.lua:1: the path "/-/x" is taken: those under /-/'),
    ('app:get("/x")', "app.lua:1: /x takes a handler function"),
    ('app:get("/x", print, { timout = 1 })', "no option 'timout', did you mean 'timeout'"),
    ('app:get("/x", print, { timeout = "1x" })', "timeout must be a duration"),
    ('app:get("/x", print, { body_limit = "huge" })', "body_limit must be a size"),
    ('app:gett("/x", print)', "an app has no method 'gett', did you mean 'get'"),
    ("moonshine.sleep(1)", "app.lua:1: moonshine.sleep: not while loading: use app:on_start"),
    ('app:cors { origins = "*", credentials = true }', 'origins "*" with credentials'),
    ("app:cors {}", "cors: origins is required"),
    ("app:use(nil)", "middleware must be a function"),
    ('app:get("/a/:id<foo>", print)', "app.lua:1: parameter 'id'"),
    ('app:static("/s", "nodir")', "app.lua:1: cannot open"),
    ('require "nope"', "app.lua:1: module 'nope' not found"),
    ("if x then", "app.lua"),
    ("app:on_start(function() error('start broke') end)", "app.lua:1: start broke"),
    ("app:check(function() error('check broke') end)", "app.lua:1: check broke"),
    ('app:get("/x", print, { name = "n" })\napp:get("/y", print, { name = "n" })',
     "app.lua:2: the name 'n' is taken by the route at app.lua:1"),
]


@pytest.mark.parametrize("source, words", LOAD_ERRORS)
def test_load_errors(start, source, words):
    node = start(source, wait=False)
    assert node.process.wait(20) != 0
    node.expect_exit = node.process.returncode
    assert words in node.log()


def test_no_app_returned(start):
    node = start({"app.lua": 'local moonshine = require "moonshine"\nmoonshine.app()'}, wait=False)
    assert node.process.wait(20) != 0
    node.expect_exit = node.process.returncode
    assert "app.lua:2: app.lua must end with `return app`" in node.log()
