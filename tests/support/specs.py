"""Runs `moonshine test` on specs that are texts, and reads what it prints."""

import re

from support.node import command, write_app

HEAD = ('local t = require "moonshine.test"; local app = require "app"; '
        'local moonshine = require "moonshine"; ')
APP = """
app:get("/users/:id<int>", function(c)
    local id = c:param("id")
    if id > 100 then c:fail(404, "no such user") end
    return { id = id, name = "user " .. id, tags = { "a", "b" } }
end)
app:get("/boom", function() error("kaput") end)
app:get("/warn", function()
    moonshine.log.warn("careful", { n = 7, why = "two words", list = { 1 } })
    moonshine.log.info("fine")
    return "warned"
end)
"""


def run_specs(path, files, *args, code=0, **options):
    """Writes app and specs, runs them, returns the result with its text."""
    files = dict(files)
    app = files.pop("app.lua", APP)
    specs = {name: HEAD + text for name, text in files.items()
             if name.endswith("_spec.lua")}
    done = command("test", write_app(path, {"app.lua": app, **files, **specs}),
                   *args, **options)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def run_spec(path, text, *args, code=0, **options):
    return run_specs(path, {"spec/a_spec.lua": text}, *args, code=code,
                     **options).stdout


def sums(text):
    """(successes, failures, errors, pending)"""
    found = re.search(r"^(\d+) success(?:es)? / (\d+) failures? / "
                      r"(\d+) errors? / (\d+) pending : [\d.]+ seconds$",
                      text, re.M)
    assert found, text
    return tuple(map(int, found.groups()))


def section(text, name):
    """What is said about the test of that name, its title included."""
    for part in re.split(r"\n(?=(?:Failure|Error|Pending) -> )", text):
        if name in part.splitlines()[1:2]:
            return part
    raise AssertionError(f"nothing about {name!r}:\n{text}")
