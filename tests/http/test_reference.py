"""Every public function is in the reference with all its parameters, has
annotations that fit the code, and is used by a test or an example.

What is public is found at run time: a program walks the module and one object
of each kind (tests/lua/surface.lua).
"""

import json
import re

import pytest

from support.node import ROOT, command, write_app

APP = r"""
local surface = require "surface"
local metrics = moonshine.metrics
local objects = {
    app = app, shared = moonshine.shared("words"),
    cache = moonshine.cache("words", { ttl = 1 }),
    limit = moonshine.limit.token_bucket { rate = 1 },
    counter = metrics.counter("a_total", "A"), gauge = metrics.gauge("b", "B"),
    histogram = metrics.histogram("c", "C"),
    timer = moonshine.every("1h", function() end),
    redis = moonshine.redis("redis://127.0.0.1:1"), -- asked nothing
}
local list
app:post("/", function(c)
    objects.c, objects.session, objects.tcp = c, c:session(), moonshine.tcp()
    objects.task = moonshine.spawn(function() end)
    objects.file, objects.upload = c:body_file(), c:upload("file")
end)
app:check(function(t)
    objects.client = t.client(app)
    objects.response = objects.client:post("/", { files = { file = { data = "text" } } })
    list = surface({ moonshine = moonshine, t = t }, objects)
    local file = assert(io.open(moonshine.env("SURFACE_FILE"), "w"))
    file:write(moonshine.json.encode(list))
    file:close()
end)
"""
README = (ROOT / "lua/README.md").read_text()
PROSE = re.sub(r"```.*?```", "", README, flags=re.S)

# Where the functions of an owner are described. There a name may stand alone or
# behind any owner; elsewhere it needs its owner.
SECTIONS = {
    "app": ["An app", "Routes", "Middleware", "Failures", "Start and stop"],
    "c": ["The request", "The response", "Streams and after"],
    "moonshine": ["The node", "Tasks and time"],
    "moonshine.crypto": ["Crypto"], "moonshine.json": ["Encoding"],
    "moonshine.encode": ["Encoding"], "moonshine.decode": ["Encoding"],
    "moonshine.limit": ["Rate limits"], "limit": ["Rate limits"],
    "moonshine.log": ["The node"], "moonshine.metrics": ["Metrics"],
    "counter": ["Metrics"], "gauge": ["Metrics"], "histogram": ["Metrics"],
    "moonshine.sessions": ["Sessions"], "session": ["Sessions"],
    "shared": ["Shared state"], "cache": ["Shared state"],
    "task": ["Tasks and time"], "timer": ["Tasks and time"],
    "file": ["Bodies"], "upload": ["Forms and uploads"],
    "redis": ["Redis"],
    "tcp": ["Talking to other services: `moonshine.tcp`"],
    "t": ["Tests"], "client": ["Tests"], "response": ["Tests"],
}
# The scheduler tells whoever asked for a task how it ended.
INTERNAL = {(owner, name) for owner in ("task", "timer")
            for name in ("finished", "died")}


@pytest.fixture(scope="module")
def surface(tmp_path_factory):
    place = tmp_path_factory.mktemp("surface")
    app = write_app(place / "app", {
        "app.lua": APP, "config.lua": 'return { shared = { words = "1m" } }\n',
        "surface.lua": (ROOT / "tests/lua/surface.lua").read_text()})
    done = command("check", app, env={"SURFACE_FILE": str(place / "list")})
    assert done.returncode == 0, done.stderr
    found = [entry for entry in json.loads((place / "list").read_text())
             if (entry["owner"], entry["name"]) not in INTERNAL]
    for entry in found:
        entry["params"] = [name for name in entry.get("params", [])
                           if name != "self"]
    # A walk that finds little proves little.
    assert {entry["owner"] for entry in found} == set(SECTIONS)
    assert len(found) > 180
    return sorted(found, key=lambda entry: (entry["owner"], entry["name"]))


def section(title):
    """The text under a heading, with that of smaller headings."""
    found = re.search(r"^(#+) %s\n(.*?)(?=^#{1,%s} |\Z)" % (
        re.escape(title), "3" if f"### {title}\n" in PROSE else "2"),
        PROSE, re.S | re.M)
    return found[2] if found else ""


def count(signature):
    """How many parameters "a[, { b, c }[, ...]]" has, and is the last one
    open?"""
    flat = re.sub(r"\{[^{}]*\}", "table", signature)
    names = [name for name in re.sub(r"[\[\]]", "", flat).split(",")
             if name.strip()]
    return len(names), bool(names) and names[-1].strip().endswith("...")


def signatures(entry):
    """What the reference says in brackets behind the name."""
    name = entry["name"]
    prefix = re.escape(entry["owner"]) + "[.:]"
    call = r"(?<![\w.:])%s%s(?:\(((?:\{[^{}]*\}|\"[^\"]*\"|[^()`])*)\)| (\{.*?\}))"
    places = [(PROSE, prefix)] + [(section(title), r"(?:[\w.]*[.:])?")
                                  for title in SECTIONS[entry["owner"]]]
    return [a or b for text, before in places
            for span in re.findall(r"`([^`]+)`", text)
            for a, b in re.findall(call % (before, name), span)]


def is_documented(entry):
    wanted = len(entry["params"])
    for text in signatures(entry):
        number, is_open = count(text)
        if entry["native"] or "..." in entry["params"] or is_open:
            return True
        if number == wanted:
            return True
    return False


def test_the_reference_names_all_parameters(surface):
    missing = [f"{e['owner']} {e['name']}({', '.join(e['params'])})"
               for e in surface if not is_documented(e)]
    assert not missing, "\n".join(missing)


def field(text, name):
    """Names of the parameters of `---@field NAME fun(...)`, or None."""
    found = re.search(r"^---@field %s fun\((.*?)\)(?=:| |$)" % name, text, re.M)
    return found and [part.split(":")[0].strip(" ?")
                      for part in re.sub(r"<[^>]*>|fun\([^)]*\)|\{[^}]*\}", "",
                                         found[1]).split(",")
                      if part.strip() and not part.strip().startswith("self")]


def fault(entry):
    """What is wrong with the annotations of a function, or None."""
    name = entry["name"]
    # Made while loading, in C or from text: described as a field of its class.
    path = entry.get("file") or f"{entry['owner'].replace('.', '/')}.lua"
    if not path.endswith(".lua"):
        path = "moonshine/metrics.lua"
        return None if field((ROOT / "lua" / path).read_text(), name) \
            is not None else "no @field"
    text = (ROOT / "lua" / path).read_text()
    lines = text.splitlines()
    at = entry.get("line", 1) - 1
    above = []
    while at > 0 and lines[at - 1].startswith("---"):
        at -= 1
        above.insert(0, lines[at])
    params = [found[1] for line in above
              if (found := re.match(r"---@param ([\w.]+)", line))]
    if not above:
        as_field = field(text, name)
        if as_field is None:
            return "no annotations"
        if not entry["native"] and as_field != entry["params"]:
            return f"@field of {as_field}, the code has {entry['params']}"
        return None
    if params != entry["params"]:
        return f"@param {params}, the code has {entry['params']}"
    if entry["returns"] and not any("@return" in line for line in above):
        return "no @return"
    return None


def test_annotations_fit_the_code(surface):
    wrong = [f"{e.get('file')}:{e.get('line')}: {e['owner']} {e['name']}: {why}"
             for e in surface if (why := fault(e))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", sorted(
    path.name for path in (ROOT / "lua").glob("*.md")))
def test_pages_name_only_what_there_is(surface, page):
    known = {f"{entry['owner']}.{entry['name']}" for entry in surface} | {
        # Not functions.
        "moonshine.dev", "moonshine.version", "moonshine.json.null",
        "moonshine.test"}
    modules = {entry["owner"] for entry in surface}
    text = (ROOT / "lua" / page).read_text()
    if page != "README.md":  # task, theirs, ours
        text = re.sub(r"^\|[^|\n]*\|[^|\n]*\|", "", text, flags=re.M)
    # `c` is a request, `app` an app, in all of them.
    found = {f"{owner}.{name}" for owner, name in re.findall(
        r"(?<![\w.:])(app|c):(\w+)\(", text)}
    found |= set(re.findall(r"(?<![\w./])(moonshine(?:\.[a-z]\w*)+)", text))
    unknown = found - known - modules
    assert len(found) > 20
    assert not unknown


def used_in():
    """All that calls the API and is run by a test."""
    files = [path for pattern in ("tests/**/*.py", "tests/**/*.lua",
                                  "apps/**/*.lua")
             for path in ROOT.glob(pattern)
             if path.name not in ("surface.lua", "test_reference.py")]
    blocks = re.findall(r"```lua\n(.*?)```", README, re.S)
    return "\n".join([path.read_text() for path in files] + blocks)


def test_every_function_is_used(surface):
    text = used_in()
    unused = []
    for entry in surface:
        owner = entry["owner"].split(".")[-1]
        # What an object is called is up to its user.
        before = rf"\b{owner}[.:]" if "." in entry["owner"] or \
            owner in ("c", "moonshine", "t") else ":"
        if not re.search(before + entry["name"] + r"\b", text):
            unused.append(f"{entry['owner']} {entry['name']}")
    assert not unused, "\n".join(unused)
