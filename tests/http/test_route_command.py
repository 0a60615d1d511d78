"""`moonshine route METHOD PATH`: what it says is what the server does."""

import re

import pytest

from support.node import command, write_app

APP = {
    "app.lua": '''
local moonshine = require "moonshine"
local users = require "users"
local app = moonshine.app()
local function timed(c, proceed) return proceed(c) end
app:get("/", users.show, { name = "home" })
app:use(timed)
local slow = moonshine.limit.token_bucket { rate = 5, per = "1m", name = "slow" }
app:get("/users/:id<int>", users.show, { name = "user", timeout = "2s", cpu_limit = "50ms" })
app:get("/users/:name", users.show)
app:get("/users/latest", users.show)
app:post("/users/:id<int>", users.show, { body = "file", body_limit = "10m" })
app:any("/any/:x<alpha>", users.show)
app:get("/any/:y<alpha>", users.show)
app:get("/docs/*rest", users.show)
app:get("/deep/a/b/", users.show)
app:group("/admin", users.guard, function(admin)
    admin:security_headers { frame = "DENY" }
    admin:cors { origins = { "https://example.com" } }
    admin:access_log(false)
    admin:on(404, "nothing")
    admin:get("/:page", slow, timed, function() return "page" end, { cancel_on_disconnect = true })
end)
app:static("/assets", "public", { fallback = "app.html" })
app:static("/plain", "public")
app:on(405, function(c) return "no", 405 end)
return app
''',
    "users.lua": '''
local M = {}
function M.show(c) return c:route() end
function M.guard(c, proceed) return proceed(c) end
return M
''',
    "config.lua": 'return { body_limit = "3m" }\n',
    "public/style.css": "body {}",
    "public/app.html": "app",
    "public/sub/index.html": "sub",
}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return write_app(tmp_path_factory.mktemp("app"), APP)


def route(app, method, path, *args, code=0):
    done = command("route", method, path, app, *args)
    assert done.returncode == code, done
    assert done.stderr == "", done
    return done.stdout


def test_a_route(app):
    text = route(app, "get", "/users/7")
    for line in (
            r"GET /users/7 runs the route GET /users/:id<int>",
            r"  name +user",
            r"  source +app\.lua:9",
            r"  parameters +id = 7 +<int>, a number in Lua",
            r"  middleware +timed +app\.lua:5",
            r"  handler +users\.show +users\.lua:3",
            r"  timeout +2s +this route",
            r"  cpu_limit +50ms +this route",
            r"  body_limit +3m +config\.lua(:1)?",
            r"  body +buffer +default",
            r"  stages +request_id, access_log"):
        assert re.search(f"^{line}$", text, re.M), (line, text)


def test_the_order_of_what_is_considered(app):
    text = route(app, "GET", "/users/7")
    listed = text.partition("Considered, in this order:\n")[2].splitlines()
    assert [" ".join(line.split()) for line in listed] == [
        "> GET /users/:id<int> app.lua:9",
        "POST /users/:id<int> app.lua:12 takes POST only",
        "GET /users/:name app.lua:10 an <int> beats a plain parameter"]
    text = route(app, "GET", "/users/latest")
    assert "> GET /users/latest" in text
    assert "a static segment beats a plain parameter" in text
    assert 'id: "latest" is not an <int>' in text
    text = route(app, "GET", "/any/x")
    assert "> GET /any/:y<alpha>" in text
    assert "a route that names the method beats any" in text


def test_other_methods_and_names(app):
    text = route(app, "POST", "/users/7")
    assert re.search(r"body +file +this route", text)
    assert re.search(r"body_limit +10m +this route", text)
    text = route(app, "HEAD", "/users/x?tab=1")
    assert "runs the route GET /users/:name" in text
    assert re.search(r"HEAD +as GET", text)
    assert 'name = "x"' in text
    text = route(app, "BREW", "/any/x")
    assert "runs the route ANY /any/:x<alpha>" in text


def test_a_group(app):
    text = route(app, "GET", "/admin/a%20b")
    assert re.search(r"middleware +timed +app.lua:5\n +users\.guard +users.lua:4\n"
                     r" +token_bucket, 5 per 60s +app.lua:8\n"
                     r" +timed +app.lua:5\n +handler +function +app.lua:22",
                     text), text
    assert re.search(r"path +/admin/a b +decoded", text)
    assert 'page = "a b"' in text
    assert re.search(r"stages +request_id, security_headers, cors\n", text)
    assert "cancel_on_disconnect" in text


def test_options_of_the_command_line(app):
    text = route(app, "GET", "/users/x", "--set", "timeout=7s",
                 "--set", "log.access=off")
    assert re.search(r"timeout +7s +--set", text)
    assert re.search(r"stages +request_id\n", text)


def test_files(app):
    text = route(app, "GET", "/assets/style.css")
    assert re.search(r"directory +/.*/public\n", text)
    assert re.search(r"file +style.css", text)
    assert re.search(r"file +app.html", route(app, "GET", "/assets/x/y"))
    text = route(app, "GET", "/plain/x", code=1)
    assert "no such file: answered 404" in text
    assert "redirected" in route(app, "GET", "/plain/sub")


def test_no_route(app):
    text = route(app, "GET", "/usres/7", code=1)
    assert "is answered 404: no route has this path" in text
    assert re.search(r'GET /users/:id<int> +app.lua:9 +"usres" is not "users"',
                     text)
    assert "shaped by" not in text
    text = route(app, "GET", "/admin/x/y", code=1)
    assert re.search(r"shaped by +on\(404\) of the group /admin", text)
    assert re.search(r'/admin/:page +app.lua:22 +the path goes on with "y"',
                     text)
    text = route(app, "GET", "/faraway/x/y/z", code=1)
    assert "None of the 12 routes is near" in text


def test_other_answers_without_a_route(app):
    text = route(app, "DELETE", "/users/7", code=1)
    assert "is answered 405" in text
    assert re.search(r"Allow +GET, HEAD, POST, OPTIONS\n", text)
    assert re.search(r"shaped by +app:on\(405\)", text)
    assert "takes POST only" in text
    text = route(app, "OPTIONS", "/users/7", code=1)
    assert "is answered 204 by the server" in text
    text = route(app, "GET", "/users/7/", code=1)
    assert "is answered 308: redirected to /users/7\n" in text
    assert "app.lua:9" in text
    assert "is answered 400" in route(app, "GET", "/%zz", code=1)
    assert "empty segment" in route(app, "GET", "/users//7", code=1)
    assert "by the server itself" in route(app, "GET", "/-/live", code=1)
    assert "the server itself" in route(app, "OPTIONS", "*", code=1)


TARGETS = ["/", "/users/7", "/users/7/", "/users/latest", "/users/x",
           "/users", "/any/a", "/any/7", "/docs", "/docs/", "/docs/a/b",
           "/deep/a/b", "/deep/a/b/", "/admin/x", "/admin/x/y", "/assets/",
           "/assets/style.css", "/plain/nothing", "/plain/sub", "/%75sers/1",
           "/users/../users/2", "//users", "/%zz", "/users/%00", "/-/live"]


def test_it_says_what_the_server_does(app, start):
    """The same requests to a real node: status and route agree."""
    node = start(app)
    for target in TARGETS:
        for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
            done = command("route", method, target, app)
            answer = node.request(method, target)
            said = re.search(r"is answered (\d+)", done.stdout)
            if said is None and "no such file" in done.stdout:
                assert answer.status == 404, (method, target, done.stdout)
            elif said is not None:
                assert done.returncode == 1, done
                assert answer.status == int(said[1]), (method, target)
                allow = re.search(r"Allow +(.*)", done.stdout)
                if allow:
                    assert answer.header("Allow") == allow[1]
                to = re.search(r"redirected to (.*)", done.stdout)
                if to:
                    assert answer.header("Location") == to[1]
            elif "by the server itself" not in done.stdout:
                assert done.returncode == 0, done
                pattern = re.search(r"runs the route \S+ (?:HEAD )?(\S+)",
                                    done.stdout)[1]
                shown = answer.text if method != "HEAD" else pattern
                assert answer.status in (200, 308), (method, target, answer)
                if "users.show" in done.stdout:
                    assert shown == pattern, (method, target)


@pytest.mark.parametrize("args, hint", [
    ([], "moonshine route GET /users/7"),
    (["/users/7"], "moonshine route GET /users/7"),
    (["GET"], "which path"),
    (["GET", "users"], "must start with /"),
    (["GET", "/", ".", "more"], "more"),
])
def test_wrong_use(args, hint):
    done = command("route", *args)
    assert done.returncode == 2 and hint in done.stderr, done


def test_a_broken_app(tmp_path):
    done = command("route", "GET", "/", write_app(tmp_path, "app:get("))
    assert done.returncode == 1 and "app.lua:2" in done.stderr, done
