"""The applications in apps/: each loads, passes its own tests, and does over a
socket what its README says."""

import json
import pathlib
import re
import shutil

import pytest

from support.client import Client
from support.node import ROOT, Node, command, eventually, free_port

APPS = sorted(path.parent.relative_to(ROOT / "apps")
              for path in (ROOT / "apps").rglob("app.lua"))
WITH_SPECS = [app for app in APPS if (ROOT / "apps" / app / "spec").is_dir()]
DOCUMENTED = [app for app in APPS if app.parent == pathlib.Path()]
JSON = {"Content-Type": "application/json"}


def test_all_are_found():
    assert {"hello", "demo", "new", "todo", "gateway", "gateway/upstream"} <= \
        set(map(str, APPS))


@pytest.mark.parametrize("app", APPS, ids=str)
def test_loads(app):
    done = command("check", ROOT / "apps" / app)
    assert done.returncode == 0, done.stderr
    assert re.match(r"ok: \d+ routes?\n", done.stdout)


@pytest.mark.parametrize("app", WITH_SPECS, ids=str)
def test_specs(app):
    done = command("test", ROOT / "apps" / app)
    assert done.returncode == 0, done.stdout + done.stderr
    successes, pending = map(int, re.search(
        r"(\d+) success\w* / 0 failures / 0 errors / (\d+) pending",
        done.stdout).groups())
    assert successes > 0 and pending == 0


@pytest.mark.parametrize("app", DOCUMENTED, ids=str)
def test_has_specs_a_readme_and_a_place_in_the_list(app):
    assert app in WITH_SPECS
    lines = (ROOT / "apps" / app / "README.md").read_text().splitlines()
    assert 5 <= len(lines) <= 50  # one screen
    assert f"| `{app}/` |" in (ROOT / "apps/README.md").read_text()


@pytest.mark.parametrize("app", ["hello", "demo", "new", "todo", "gateway"])
def test_is_short(app):
    """All of its Lua, but for its tests."""
    lines = sum(len(path.read_text().splitlines())
                for path in (ROOT / "apps" / app).rglob("*.lua")
                if "spec" not in path.parts)
    assert lines < 300


# todo, over a socket

def test_todo_across_a_reload(start, tmp_path):
    app = tmp_path / "todo"
    shutil.copytree(ROOT / "apps/todo", app)
    node = start(app, workers=2)

    def ask(method, target, value=None, token="anna-secret", **headers):
        return node.request(
            method, target,
            {**JSON, "Authorization": f"Bearer {token}", **headers},
            None if value is None else json.dumps(value))

    made = ask("POST", "/todos", {"title": "buy milk", "due": "2026-12-24"})
    assert made.status == 201
    url = made.header("Location")
    version = ask("GET", url).header("ETag")
    for number in range(2, 26):
        assert ask("POST", "/todos", {"title": f"no. {number}"}).status == 201

    text = (app / "app.lua").read_text()
    node.rewrite(text.replace("\nreturn app", 'app:get("/about", '
                              'function() return "todo 2" end)\n\nreturn app'))
    done = node.command("reload")
    assert done.returncode == 0, done.stderr
    assert node.get("/about").text == "todo 2"

    assert ask("GET", url).json() == made.json()
    assert ask("GET", url, **{"If-None-Match": version}).status == 304
    page = ask("GET", "/todos?per=10&page=2").json()
    assert (len(page["items"]), page["total"]) == (10, 25)
    assert ask("PATCH", url, {"done": True},
               **{"If-Match": version}).json()["done"] is True
    lost = ask("PATCH", url, {"done": False}, **{"If-Match": version})
    assert lost.status == 412
    done = ask("GET", "/todos?done=true").json()["items"]
    assert [todo["title"] for todo in done] == ["buy milk"]
    lines = ask("GET", "/export").text.splitlines()
    assert len([json.loads(line) for line in lines]) == 25
    assert ask("DELETE", url).status == 204
    assert ask("GET", url).status == 404
    assert ask("GET", "/todos", token="ben-secret").json()["items"] == []
    assert ask("POST", "/todos", {"title": ""}).status == 422
    assert ask("GET", "/todos", token="guess").status == 401


def test_todo_does_not_tell_about_bugs(start, tmp_path):
    app = tmp_path / "todo"
    shutil.copytree(ROOT / "apps/todo", app)
    text = (app / "app.lua").read_text()
    (app / "app.lua").write_text(text.replace(
        "\nreturn app", 'app:get("/bug", function() error("key 123") end)\n'
        "\nreturn app"))
    node = start(app)
    bug = node.get("/bug")
    assert (bug.status, bug.json()["error"]) == (500, "error")
    assert "123" not in bug.text and "app.lua" not in bug.text
    node.wait_log("app.lua:[0-9]+: key 123")


# gateway, with what stands behind it

@pytest.fixture
def pair(start):
    upstream = start(ROOT / "apps/gateway/upstream", name="upstream")
    gateway = start(
        ROOT / "apps/gateway", name="gateway", workers=2,
        env={"UPSTREAM": "http://127.0.0.1:%d" % upstream.address[1]})
    return gateway, upstream


KEY = {"X-Key": "demo"}
FRESH = {"news": "fresh", "weather": "fresh"}


def state(gateway):
    home = gateway.get("/v1/home", KEY)
    return home.status, home.json()["state"]


def becomes(gateway, what):
    """A busy machine may miss the 500 ms that a service has now and then."""
    eventually(lambda: state(gateway) == (200, what), str(what))


def test_gateway_answers_from_both(pair):
    gateway, _ = pair
    becomes(gateway, FRESH)
    home = gateway.get("/v1/home", KEY)
    assert home.status == 200
    assert home.json() == {
        "client": "a demo", "state": FRESH,
        "weather": {"sky": "clear", "degrees": 4},
        "news": [{"title": "A moon was seen"}, {"title": "It shone"}]}
    assert "weather;dur=" in home.header("Server-Timing")
    assert gateway.get("/v1/home").status == 401
    rate = eventually(
        lambda: gateway.get("/v1/rates/usd", KEY).status == 200 and
        gateway.get("/v1/rates/usd", KEY), "the timer asks for the rates")
    assert rate.json() == {"currency": "USD", "rate": 1.08}


def test_gateway_with_one_that_breaks_or_is_slow(pair):
    gateway, upstream = pair
    becomes(gateway, FRESH)
    assert upstream.request("POST", "/break/weather").status == 204
    assert upstream.request("POST", "/slow/news?ms=5000").status == 204
    assert state(gateway) == (200, {"news": "stale", "weather": "stale"})
    assert gateway.get("/health").text == "fine\n"
    assert upstream.request("POST", "/slow/news?ms=0").status == 204
    becomes(gateway, {"news": "fresh", "weather": "stale"})
    assert upstream.request("POST", "/break/weather?off=1").status == 204
    becomes(gateway, FRESH)


def test_gateway_while_all_are_down_and_come_back(start):
    listen = f"127.0.0.1:{free_port()}"
    gateway = start(ROOT / "apps/gateway", name="gateway",
                    env={"UPSTREAM": f"http://{listen}"})
    assert state(gateway) == \
        (502, {"news": "missing", "weather": "missing"})
    assert gateway.get("/v1/feed", KEY).status == 502
    with Node(ROOT / "apps/gateway/upstream", listen=listen):
        becomes(gateway, FRESH)
    assert state(gateway) == (200, {"news": "stale", "weather": "stale"})
    with Node(ROOT / "apps/gateway/upstream", listen=listen):
        becomes(gateway, FRESH)


def test_gateway_passes_a_stream_on(pair):
    gateway, _ = pair
    with Client(gateway.address) as client:
        client.send(b"GET /v1/feed HTTP/1.1\r\nHost: x\r\nX-Key: demo\r\n\r\n")
        client.take_until(b"data: event 2\n")
