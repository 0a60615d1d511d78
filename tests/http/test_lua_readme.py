"""Every example of lua/*.md loads, and answers what it says it does."""

import json
import re

import pytest

from support.node import ROOT, command, write_app
from support.servers import RedisServer

README = (ROOT / "lua/README.md").read_text()
PAGES = README + "".join(path.read_text() for path in
                         sorted((ROOT / "lua").glob("coming-from-*.md")))
# Maybe views, which say in a comment what they are called; code; maybe requests.
BLOCKS = re.findall(r"((?:```html\n(?:(?!```).)*```\n)*)```lua\n(.*?)```\n"
                    r"(?:```http\n(.*?)```)?", PAGES, re.S)
# One that begins with "-- config.lua" is one, of an application that is empty.
# A block that begins with the name of a spec file tests the app above it.
SPECS = [(before[1], block[1]) for before, block in zip(BLOCKS, BLOCKS[1:])
         if block[1].startswith("-- spec/")]
EXAMPLES = [block for block in BLOCKS if not block[1].startswith("-- spec/")]


# What examples expect of config.lua.
SETTINGS = {"shared": "visits=1m,rates=1m"}


def title(example):
    return example[1].strip().splitlines()[0][:40]


@pytest.fixture
def settings(source):
    """With a Redis for those that use one."""
    if "moonshine.redis" not in source:
        yield SETTINGS
        return
    with RedisServer() as redis:
        yield {**SETTINGS, "redis.url": redis.url}


@pytest.mark.parametrize("views, source, requests", EXAMPLES, ids=map(title, EXAMPLES))
def test_example(start, tmp_path, settings, views, source, requests):
    if views:
        source = {"app.lua": source}
        for path, text in re.findall(r"```html\n<%# (\S+) %>\n(.*?)```", views, re.S):
            source[path] = text
    if not views and source.startswith("-- config.lua"):
        source = {"app.lua": 'return require "moonshine".app()',
                  "config.lua": source}
    if not requests:
        done = command("check", write_app(tmp_path, source))
        assert done.returncode == 0, done.stderr
        return
    node = start(source, settings=settings)
    cookies = {}  # as a browser keeps them
    for line in requests.strip().splitlines():
        method, target, sent, status, want = re.fullmatch(
            r"(\S+) +(\S+) +(?:(\S+) +)??(\d{3})(?: (.*))?", line).groups()
        body = None if method in ("GET", "DELETE") else (sent or "").encode()
        kind = "application/json" if (sent or "").startswith("{") else \
            "application/x-www-form-urlencoded"
        headers = {"Content-Type": kind} if sent else {}
        if cookies:
            headers["Cookie"] = "; ".join(map("=".join, cookies.items()))
        answer = node.request(method, target, headers, body)
        for cookie in answer.all("Set-Cookie"):
            name, value = cookie.split(";")[0].split("=", 1)
            cookies[name] = value
        assert answer.status == int(status), line
        if want and want.startswith(("{", "[")):
            assert answer.json() == json.loads(want), line
        elif want:
            assert answer.text.rstrip("\n") == want, line


@pytest.mark.parametrize("source, spec", SPECS)
def test_spec(tmp_path, source, spec):
    name = re.match("-- (.*)", spec)[1]
    done = command("test", write_app(tmp_path, {"app.lua": source, name: spec}))
    assert done.returncode == 0, done.stdout + done.stderr
    tests = len(re.findall(r'\bit\("[^"]*", function', spec))
    pending = len(re.findall(r'\bit\("[^"]*"\)', spec))
    assert f"\n{tests} successes / 0 failures / 0 errors / {pending} pending " \
        in done.stdout, done.stdout


NAMES = r"""
local function add(list, names, prefix)
    for name in pairs(names) do
        if type(name) == "string" and not name:find("^_") then
            list[#list + 1] = prefix .. name
        end
    end
end
app:get("/", function()
    local list = {}
    add(list, require("moonshine.context").methods, "c:")
    add(list, require("moonshine.scope").Scope, "app:")
    add(list, moonshine, "moonshine.")
    add(list, require "moonshine.test", "t.")
    return list
end)
"""


def test_every_public_name_is_documented(start):
    """By its full name or, in tables and lists, by its last part."""
    for name in start(NAMES).get("/").json():
        last = re.split("[:.]", name)[1]
        assert name in README or re.search(r"`%s\b" % last, README), name
