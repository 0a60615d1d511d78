"""--dev: the error page, code that does not load, reload on save."""

import json
import os
import re
import signal
import time

import pytest

from support.admin import Admin
from support.node import Node, command, eventually, free_port, write_app

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

APP = {
    "app.lua": '''
local moonshine = require "moonshine"
local orders = require "orders"
local app = moonshine.app()
app:security_headers { csp = "default-src 'self'" }
local function timed(c, proceed)
    local began = 1
    local body = proceed(c)
    return body
end
app:post("/orders/:id<int>", timed, function(c)
    local order = c:bind()
    local cents = orders.total(order.lines, "extra", nil, 3)
    return { cents = cents }
end)
app:get("/throw", function(c)
    local kind = c:query("kind", "nil")
    local hostile = setmetatable({}, {
        __tostring = function() error("called") end,
        __index = function() error("called") end,
        __len = function() error("called") end,
    })
    local loop = {} loop.loop = loop
    local values = {
        ["nil"] = nil, table = { x = 1 }, hostile = hostile, loop = loop,
        number = 12, text = "<script>alert(1)</script>", bytes = "a\\255\\0b",
    }
    error(values[kind], kind == "nil" and 0 or 1)
end)
app:get("/level2", function() local function check(x) error("bad x", 2) end
    local y = 5
    check(y)
end)
app:get("/all", function()
    local outer = "o"
    return { moonshine.all(function()
        local inner = "i"
        error("in a part")
    end, function() moonshine.sleep(5) end) }
end)
app:get("/all-caught", function()
    pcall(moonshine.all, function() error("caught") end)
    local after = 1
    error("after it")
end)
app:get("/coroutine", function()
    coroutine.wrap(function() error("inside") end)()
end)
app:get("/deep", function() local function deep(n) return 1 + deep(n + 1) end return deep(1) end)
app:get("/result", function() return 5 end)
app:get("/spin", function() local n = 0 while true do n = n + 1 end end)
app:get("/hog", function()
    local kept = {}
    while true do kept[#kept + 1] = ("x"):rep(4096) .. #kept end
end, { cpu_limit = "5s" })
app:get("/late", function() local waits = "here" moonshine.sleep(30) end, { timeout = "100ms" })
app:get("/wanted", function(c) c:fail(503, "closed today") end)
app:get("/missing", function(c) c:fail(404, "no such order") end)
app:get("/big", function() local big = ("x"):rep(1000000) .. math.random() error("big") end)
app:get("/ok", function() return "ok" end)
return app
''',
    "orders.lua": '''
local M = {}
local prices = { coffee = 3, tea = 2, password = "hunter2" }
function M.total(lines, ...)
    local sum = 0
    for i, line in ipairs(lines) do
        local price = prices[line.what]
        sum = sum + price * line.count
    end
    return sum
end
return M
''',
}
ORDER = json.dumps({"lines": [{"what": "tea", "count": 2},
                              {"what": "milk", "count": 1}]})


@pytest.fixture(scope="module")
def node(start_shared):
    return start_shared(APP, "--dev")


def order(node, headers):
    return node.request("POST", "/orders/7?tab=a%20b&x=1", {
        "Content-Type": "application/json", "Authorization": "Bearer s3cret",
        "Cookie": "sid=abcdef; theme=dark", "X-Other": "<seen>", **headers},
        ORDER)


def text_of(page):
    """The page as somebody reads it."""
    body = re.sub(r"<(style|title)>.*?</\1>", "", page.text, flags=re.S)
    body = re.sub(r"</?(tr|td|h\d|div|details|p|pre)[^>]*>", "\n", body)
    body = re.sub("<[^>]*>", "", body)
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'),
                         ("&#39;", "'"), ("&amp;", "&")):
        body = body.replace(entity, char)
    return re.sub(r"\n\s*\n+", "\n", body)


def test_page(node):
    page = order(node, HTML)
    assert page.status == 500
    assert page.header("Content-Type") == "text/html; charset=utf-8"
    assert page.header("Cache-Control") == "no-store"
    text = text_of(page)
    for part in (
            # what and where, with the source
            "500 Lua error in POST /orders/7?tab=a%20b&x=1",
            "\nattempt to perform arithmetic on local 'price' (a nil value)\n",
            "orders.lua:8in function 'total'",
            "8        sum = sum + price * line.count",
            # variables of each frame
            "\nprice\nnil\n", "\nsum\n4\n", "\ni\n2\n",
            '\nline\n{ count = 1, what = "milk" }\n',
            '\n... 1\n"extra"\n', "\n... 2\nnil\n", "\n... 3\n3\n",
            '\nprices\n{ coffee = 3, password = "hunter2", tea = 2 }\n',
            "app.lua:13in the handler", "\norder\n{ lines = ",
            "\nc\nthe context of the request\n",
            "app.lua:8in the middleware timed", "\nbegan\n1\n",
            # the request
            "\nid\n7\n", "\ntab\na b\n", "\nX-Other\n<seen>\n",
            "\nAuthorization\nBearer ***\n", "\nCookie\nsid=***; theme=***\n",
            f"Body, {len(ORDER)} bytes\n{ORDER}",
            # the rest
            "route/orders/:id<int>, app.lua:11", "generation1",
            "stack traceback:", "leave it out to turn this page off"):
        assert part in text, (part, text)
    assert "s3cret" not in page.text and "abcdef" not in page.text
    assert "__moon" not in page.text and "temporary" not in page.text
    assert page.header("X-Request-Id") in text


def test_page_needs_nothing_and_may_do_nothing(node):
    page = order(node, HTML)
    assert "<script" not in page.text and "http://" not in page.text
    assert not re.search(r'(src|href)="(?!data:)', page.text)
    policy = page.all("Content-Security-Policy")
    assert len(policy) == 1 and "default-src 'none'" in policy[0]
    assert "script" not in policy[0]
    # Other answers keep the application's.
    assert node.get("/ok").all("Content-Security-Policy") == \
        ["default-src 'self'"]


def test_json_clients_get_the_same_facts(node):
    answer = order(node, {})
    assert answer.status == 500
    assert answer.header("Content-Type") == "application/problem+json"
    problem = answer.json()
    assert problem["detail"].startswith(
        "orders.lua:8: attempt to perform arithmetic on local 'price'")
    facts = problem["details"]
    top, handler, middleware = facts["frames"]
    assert (top["file"], top["line"]) == ("orders.lua", 8)
    assert {"name": "sum", "type": "number", "value": "4"} in top["locals"]
    assert top["upvalues"][0]["name"] == "prices"
    assert top["source"]["lines"][8 - top["source"]["first"]] == \
        "        sum = sum + price * line.count"
    assert handler["line"] == 13 and middleware["line"] == 8
    assert facts["request"]["body"] == {"size": len(ORDER), "text": ORDER,
                                        "cut": False}
    assert {"name": "id", "value": "7"} in facts["request"]["params"]
    assert facts["route"] == {"pattern": "/orders/:id<int>",
                              "source": "app.lua:11"}
    assert facts["generation"] == 1
    assert "s3cret" not in answer.text


@pytest.mark.parametrize("kind, wanted", [
    ("nil", "nil"), ("table", "error is a table: { x = 1 }"), ("hostile", "(error is a table"),
    ("loop", "error is a table: { loop = { again } }"), ("number", "12"),
    ("text", "<script>alert(1)</script>"), ("bytes", "a")])
def test_whatever_was_thrown(node, kind, wanted):
    page = node.get(f"/throw?kind={kind}", HTML)
    assert page.status == 500 and wanted in text_of(page)
    assert "<script" not in page.text
    assert node.get(f"/throw?kind={kind}").json()["details"]["frames"]


@pytest.mark.parametrize("path, title, parts", [
    ("/level2", "\nbad x\n", ["app.lua:32in the handler", "\ny\n5\n",
                              "app.lua:30in function 'check'"]),
    ("/all", "\nin a part\n", ["\ninner\n\"i\"\n", "\nouter\n\"o\"\n"]),
    ("/all-caught", "\nafter it\n", ["\nafter\n1\n"]),
    ("/coroutine", "\ninside\n", ["in the handler"]),
    ("/deep", "stack overflow", ["in function 'deep'"]),
    ("/result", "the handler returned a number", ["5 end)"]),
    ("/spin", "cpu limit of 250 ms exceeded", ["503", "\nn\n"]),
    ("/hog", "memory limit of 64 MiB exceeded", ["503", "\nkept\n{ \"xxx"]),
    ("/late", "timeout of 100 ms exceeded", ["503", '\nwaits\n"here"\n']),
])
def test_kinds_of_failures(node, path, title, parts):
    page = node.get(path, HTML)
    text = text_of(page)
    for part in (title, *parts):
        assert part in text, (part, text)
    assert "moonshine/" not in text, text
    assert node.get("/ok").text == "ok"


def test_caught_errors_leave_nothing(node):
    assert "caught" not in text_of(node.get("/all-caught", HTML)).replace(
        "/all-caught", "").replace('error("caught")', "")


def test_wanted_failures_are_not_for_the_developer(node):
    for path, status in (("/wanted", 503), ("/missing", 404), ("/none", 404)):
        page = node.get(path, HTML)
        assert page.status == status and "--dev" not in page.text


def test_the_log_says_the_same(node):
    order(node, HTML)
    node.wait_log(r"request failed: orders.lua:8: attempt to perform .*\n"
                  r"    traceback: stack traceback:\n"
                  r"    \torders.lua:8: in function 'total'\n"
                  r"    \tapp.lua:13: in function 'handler'")


def test_nothing_is_kept(node):
    """What failed code held is free once its failure was answered."""
    before = Admin(node).status()["workers"][0]["pid"]
    for _ in range(300):  # 300 MB in all
        assert node.get("/big").status == 500
    worker = Admin(node).status()["workers"][0]
    assert worker["pid"] == before
    assert worker["lua_bytes"] < 150e6


def test_without_dev_nothing_of_it_is_told(start):
    node = start(APP)
    for headers in (HTML, {}):
        answer = order(node, headers)
        assert answer.status == 500
        for secret in ("orders.lua", "price", "hunter2", "traceback"):
            assert secret not in answer.text
        assert answer.header("Content-Security-Policy") == \
            "default-src 'self'"


def test_an_application_that_shapes_its_errors(start):
    """The developer looks at a browser; what reads JSON reads its shape."""
    node = start('''
app:on_error(function(c, err) return { mine = err.kind }, err.status end)
app:on(503, "later")
app:get("/bug", function() error("oops") end)
app:get("/spin", function() while true do end end)
app:get("/wanted", function(c) c:fail(500, "wanted") end)
''', "--dev")
    page = node.get("/bug", HTML)
    assert "oops" in page.text and "<code>app:on_error</code>" in page.text
    assert node.get("/bug").json() == {"mine": "error"}
    page = node.get("/spin", HTML)
    assert page.status == 503 and "<code>on(503)</code>" in page.text
    assert node.get("/spin").text == "later"
    assert node.get("/wanted", HTML).json() == {"mine": "fail"}


# Code that does not load

GOOD = 'app:get("/", function() return "good" end)'
FIRST = 'local moonshine = require "moonshine" local app = moonshine.app()'


def broken(app, *args, **options):
    """A node whose code does not load, once it says so."""
    node = Node(app, "--dev", *args, wait=False, **options)

    def shows():
        assert node.process.poll() is None, node.log()
        try:
            return node.get("/any/path").status == 500
        except OSError:
            return False
    try:
        eventually(shows, "the error is shown", 60)
    except BaseException:
        print(node.log())
        node.kill()
        raise
    return node


START = {
    "syntax": (f"{FIRST}\napp:get(\nreturn app", "app.lua:3: ",
               "unexpected symbol near 'return'"),
    "while loading": (f"{FIRST}\nlocal wanted = 7\nerror('no ' .. wanted)",
                      "app.lua:3: no 7", "\nwanted\n7\n"),
    "on_start": (f"{FIRST}\napp:on_start(function()\n  local host = 'db1'\n"
                 "  error('no ' .. host)\nend)\nreturn app",
                 "app.lua:4: no db1", '\nhost\n"db1"\n'),
    "check": (f"{FIRST}\napp:check(function() assert(1 == 2, 'wrong') end)\n"
              "return app", "wrong", "app.lua:2in function 'check'"),
    "no return": (FIRST, "app.lua", "return app"),
    "duplicate": (f"{FIRST}\napp:get('/', print)\napp:get('/', print)\n"
                  "return app", "app.lua:3: GET / is registered twice",
                  "first at app.lua:2"),
    "crash": ("require('ffi').cdef 'void abort(void);' "
              "require('ffi').C.abort()", "crashed while loading", "SIGABRT"),
    "exit": ("require('ffi').cdef 'void _exit(int);' "
             "require('ffi').C._exit(3)", "ended its process", "exit code 3"),
}


@pytest.mark.parametrize("name", START)
def test_start_with_code_that_does_not_load(name):
    source, logged, shown = START[name]
    with broken({"app.lua": source}, workers=2) as node:
        assert logged in node.log()
        node.wait_log("until a version is saved that loads")
        for _ in range(4):
            page = node.get("/", HTML)
            assert page.status == 500
            text = text_of(page)
            assert "The code does not load" in text
            assert shown in text, text
            assert logged.split(": ")[-1] in text
        assert logged in node.request("POST", "/x", None, "y").json()["detail"]
        assert node.get("/-/live").status == 200
        assert node.get("/-/ready").status == 503
        status = Admin(node).status()
        assert status["state"] == "broken" and logged in status["broken"]
        assert "broken" in node.command("status").stdout
        node.rewrite(GOOD)
        eventually(lambda: node.get("/").text == "good", "it came up")
        eventually(lambda: node.get("/-/ready").status == 200, "it is ready")
        status = Admin(node).status()
        assert status["state"] == "ready" and status["broken"] is None
        assert status["generation"] == 1


def test_start_without_an_app(tmp_path):
    (tmp_path / "app").mkdir()
    with broken(tmp_path / "app") as node:
        assert "app.lua" in node.log()
        assert "app:get(" in text_of(node.get("/", HTML))
        node.rewrite(GOOD)
        eventually(lambda: node.get("/").text == "good", "it came up")


def test_start_with_a_file_that_cannot_be_read(tmp_path):
    app = write_app(tmp_path / "app", {"app.lua": GOOD, "lib/a.lua": "x"})
    options = {}
    if os.getuid() == 0:
        options["user"] = "nobody"
        for folder in (app, *app.parents):
            folder.chmod(folder.stat().st_mode | 0o011)
        for name in ("run", "state"):
            (tmp_path / name).mkdir()
            os.chown(tmp_path / name, 65534, -1)
    (app / "lib/a.lua").chmod(0)
    with broken(app, run_dir=tmp_path / "run", state_dir=tmp_path / "state",
                **options) as node:
        assert "lib/a.lua: Permission denied" in node.log()
        assert "Permission denied" in text_of(node.get("/", HTML))
        (app / "lib/a.lua").chmod(0o644)
        # Which says nothing of value, but can be read.
        eventually(lambda: node.get("/").text == "good", "it came up")


def test_start_with_a_wrong_configuration():
    with broken({"app.lua": GOOD, "config.lua": "timeout = 'soon'\n"},
                settings={"body_limit": "1m"}) as node:
        assert 'config.lua:1: timeout = "soon"' in node.log()
        text = text_of(node.get("/", HTML))
        assert "1timeout = 'soon'" in text
        node.rewrite({"config.lua": "timeout = '5s'\n"})
        eventually(lambda: node.get("/").text == "good", "it came up")


def test_start_that_takes_too_long():
    with broken({"app.lua": f"{FIRST}\nlocal ffi = require 'ffi' "
                 "ffi.cdef 'int usleep(unsigned);' ffi.C.usleep(9e6)"},
                settings={"load_timeout": "500ms"}) as node:
        assert "load_timeout" in node.log()
        assert "load_timeout" in text_of(node.get("/", HTML))


def test_what_is_no_matter_of_the_code_fails_at_start(start, tmp_path):
    node = start(GOOD)
    for source in (GOOD, "app:get("):
        done = command("run", write_app(tmp_path / "app", source), "--dev",
                       "--listen", node.listen, "--run-dir", tmp_path / "r",
                       "--state-dir", tmp_path / "s", "--name", "second")
        assert done.returncode == 1, done
        assert str(node.pid) in done.stderr


def test_workers_that_die_while_nothing_loads():
    with broken("app:get(", workers=2) as node:
        for pid in node.children():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(node.children()) == 2, "two new workers")

        def all_show():
            try:
                return all(node.get("/").status == 500 for _ in range(4))
            except OSError:
                return False
        eventually(all_show, "the error is shown")
        done = node.command("rollback")
        assert done.returncode == 1 and "save a version" in done.stderr
        done = node.command("reload")
        assert done.returncode == 1 and "app.lua:2" in done.stderr
        node.rewrite(GOOD)
        eventually(lambda: node.get("/").text == "good", "it came up")


def test_a_new_worker_shows_the_error_of_a_reload(start):
    node = start(GOOD, "--dev")
    node.rewrite("app:get(")
    eventually(lambda: node.get("/").status == 500, "the error is shown")
    before = node.children()
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: node.children() not in ([], before), "a new worker")
    assert node.get("/").status == 500
    text = text_of(node.get("/", HTML))
    assert "app.lua:2" in text and "1local moonshine" in text
    node.rewrite(GOOD)
    eventually(lambda: node.get("/").text == "good", "it loads again")


def test_rollback_shows_the_old_code_again(start):
    node = start(GOOD, "--dev")
    node.rewrite(GOOD + " -- two")
    eventually(lambda: Admin(node).status()["generation"] == 2, "two")
    node.rewrite("app:get(")
    eventually(lambda: node.get("/").status == 500, "the error is shown")
    done = node.command("rollback")
    assert done.returncode == 0, done
    assert node.get("/").text == "good"
    assert Admin(node).status()["broken"] is None


def test_it_says_where_to_look(start):
    node = start(GOOD, "--dev")
    node.wait_log(f"open http://{node.listen}/ ")
    assert "open http" not in start(GOOD).log()


def test_locals_of_code_that_fails_after_a_save(start):
    node = start(GOOD, "--dev")
    node.rewrite({"app.lua": f"{FIRST}\nlocal answer = 42\n"
                  "local function fail(x) error('at ' .. x) end\nfail(answer)"})
    eventually(lambda: node.get("/").status == 500, "the error is shown")
    text = text_of(node.get("/", HTML))
    assert "app.lua:3in function 'fail'" in text and "\nx\n42\n" in text
    assert "app.lua:4in main chunk" in text and "\nanswer\n42\n" in text


# Reload on save

MARK = {"app.lua": '''
local moonshine = require "moonshine"
local app = moonshine.app()
local view = moonshine.read("views/mark.html")
local mark = require "mark"
app:get("/", function() return { mark, view, moonshine.config().mark } end)
return app
''', "lib/mark.lua": "return 'start'", "views/mark.html": "start",
    "views/deep/x.html": "", "config.lua": "app = { mark = 'start' }"}


def save_in_place(app, mark):
    (app / "lib/mark.lua").write_text(f"return '{mark}'")


def save_by_rename(app, mark):
    (app / "lib/.mark.lua.swp").write_text(f"return '{mark}'")
    (app / "lib/.mark.lua.swp").rename(app / "lib/mark.lua")


def save_with_backup(app, mark):
    (app / "lib/mark.lua").rename(app / "lib/mark.lua~")
    save_in_place(app, mark)
    (app / "lib/mark.lua~").unlink()


def save_anew(app, mark):
    (app / "lib/mark.lua").unlink()
    save_in_place(app, mark)


def save_slowly(app, mark):
    with open(app / "lib/mark.lua", "w", encoding="ascii") as file:
        for ch in f"return '{mark}'":
            file.write(ch)
            file.flush()


def save_many(app, mark):
    for number in range(20):
        (app / f"lib/other{number}.lua").write_text("return 1")
    save_in_place(app, mark)


def save_in_a_new_directory(app, mark):
    (app / f"lib/{mark}/b").mkdir(parents=True)
    (app / f"lib/{mark}/b/c.lua").write_text(f"return '{mark}'")
    (app / "lib/mark.lua").write_text(f"return require '{mark}.b.c'")


def save_a_link(app, mark):
    (app / "kept.txt").write_text(f"return '{mark}'")
    (app / "lib/mark.lua").unlink()
    os.link(app / "kept.txt", app / "lib/mark.lua")


def save_a_view(app, mark):
    (app / "views/mark.html").write_text(mark)


def save_the_configuration(app, mark):
    (app / "config.lua").write_text(f"app = {{ mark = '{mark}' }}")


SAVES = [save_in_place, save_by_rename, save_with_backup, save_anew,
         save_slowly, save_many, save_in_a_new_directory, save_a_link,
         save_a_view, save_the_configuration]


@pytest.fixture(scope="module")
def saved(start_shared):
    return start_shared(MARK, "--dev")


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
def test_a_save_is_served(saved, save):
    save(saved.app, save.__name__)
    eventually(lambda: save.__name__ in saved.get("/").text, "served")


def test_a_file_in_a_directory_that_came_later(saved):
    save_in_a_new_directory(saved.app, "first")
    eventually(lambda: "first" in saved.get("/").text, "served")
    (saved.app / "lib/first/b/c.lua").write_text("return 'second'")
    eventually(lambda: "second" in saved.get("/").text, "watched, too")


def test_a_configuration_elsewhere(start, tmp_path):
    config = tmp_path / "etc/shop.conf"
    config.parent.mkdir()
    config.write_text("app = { mark = 'one' }")
    node = start(MARK, "--dev", "--config", config)
    assert "one" in node.get("/").text
    config.write_text("app = { mark = 'two' }")
    eventually(lambda: "two" in node.get("/").text, "served")
    generation = Admin(node).status()["generation"]
    (config.parent / "other.lua").write_text("no part of it")
    config.write_text("app = { mark = 'three' }")
    eventually(lambda: "three" in node.get("/").text, "served")
    assert Admin(node).status()["generation"] == generation + 1


def test_what_is_no_code_reloads_nothing(start):
    node = start(MARK, "--dev")
    for name in ("data.db", "lib/.mark.lua.swp", "lib/mark.lua~", "x.log"):
        (node.app / name).write_text("x")
    save_in_place(node.app, "at last")
    eventually(lambda: "at last" in node.get("/").text, "served")
    assert Admin(node).status()["generation"] == 2


def test_files_that_are_written_all_the_time(start):
    """However busily something writes, the code is looked at now and then."""
    node = start(MARK, "--dev")
    save_in_place(node.app, "busy")
    deadline = time.monotonic() + 60
    number = 0
    while "busy" not in node.get("/").text:
        (node.app / "lib/noise.lua").write_text(f"return {number}")
        number += 1
        assert time.monotonic() < deadline
