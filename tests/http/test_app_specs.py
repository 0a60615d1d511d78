"""`moonshine test`: spec files of applications, and what comes of them."""

import re

import pytest

from support.node import BINARY
from support.specs import run_spec, run_specs, section, sums

SANITIZED = "asan" in BINARY or "tsan" in BINARY


# ---- outcomes ----

def test_all_pass(tmp_path):
    text = run_spec(tmp_path, """
describe("users", function()
    it("are found", function()
        local r = t.request(app, "GET", "/users/7")
        assert(r.status == 200)
        t.same(r:json(), { id = 7, name = "user 7", tags = { "a", "b" } })
        t.equal(r:header("Content-Type"), "application/json")
    end)
    it("or not", function()
        t.equal(t.request(app, "GET", "/users/101").status, 404)
    end)
end)
""")
    assert text.startswith("++\n")
    assert sums(text) == (2, 0, 0, 0)
    assert len(text.splitlines()) == 2


def test_marks_sums_and_sections(tmp_path):
    text = run_spec(tmp_path, """
it("passes", function() end)
it("fails", function() assert(1 == 2) end)
it("breaks", function() local x; return x.y end)
it("has no body")
pending("comes later", function() error("not run") end)
it("says so itself", function() pending("when it rains") end)
""", code=1)
    assert text.startswith("+-*...\n")
    assert sums(text) == (1, 1, 1, 3)
    titles = re.findall(r"^(?:Pending|Failure|Error) -> .*\n.*$", text, re.M)
    assert titles == [
        "Pending -> spec/a_spec.lua:5\nhas no body",
        "Pending -> spec/a_spec.lua:6\ncomes later",
        "Pending -> spec/a_spec.lua:7\nsays so itself",
        "Failure -> spec/a_spec.lua:3\nfails",
        "Error -> spec/a_spec.lua:4\nbreaks"]
    assert "when it rains" in section(text, "says so itself")
    assert section(text, "fails").splitlines()[2:] == [
        "assertion failed!",
        '     3 | it("fails", function() assert(1 == 2) end)',
        "stack traceback:",
        "\tspec/a_spec.lua:3: in function 'fn'"]
    assert "attempt to index local 'x' (a nil value)" in section(text, "breaks")


def test_pending_tests_fail_nothing(tmp_path):
    text = run_spec(tmp_path, 'it("waits to be written")')
    assert sums(text) == (0, 0, 0, 1)


def test_a_failure_names_line_values_and_log(tmp_path):
    text = run_spec(tmp_path, """
describe("users", function()
    describe("by id", function()
        it("are found", function()
            t.request(app, "GET", "/boom")
            t.request(app, "GET", "/warn")
            local user = t.request(app, "GET", "/users/7"):json()
            t.same(user, { id = 8, name = "user 7", tags = { "b" } })
        end)
    end)
end)
""", code=1)
    part = section(text, "users by id are found")
    assert part.startswith("Failure -> spec/a_spec.lua:8\n")
    assert """\
the values differ
     8 |             t.same(user, { id = 8, name = "user 7", tags = { "b" } })
(- expected, + actual)
  {
-   id = 8,
+   id = 7,
    name = "user 7",
    tags = {
+     "a",
      "b",
    },
  }
stack traceback:
\tspec/a_spec.lua:8: in function 'fn'
log:
""" in part
    assert re.search(r"^    error  request failed: app.lua:7: kaput request_id="
                     r"\w+ route=/boom ", part, re.M)
    assert re.search(r'^    warn   careful .* list=\[1\] n=7 why="two words"$',
                     part, re.M)
    assert "fine" not in part


def test_an_error_in_the_code_under_test_names_its_line(tmp_path):
    text = run_specs(tmp_path, {"lib/sums.lua": """
return {
    add = function(a, b)
        return a + b
    end,
}
""", "spec/a_spec.lua": """
it("adds", function()
    local sum = require("sums").add(1, nil)
    assert(sum)
end)
"""}, code=1).stdout
    part = section(text, "adds")
    assert part.startswith("Error -> lib/sums.lua:4\n")
    assert "     4 |         return a + b\n" in part
    assert "\n\tspec/a_spec.lua:3: in function 'fn'" in part


@pytest.mark.parametrize("statement, message", [
    ("t.equal(1, 2)", "expected 2, got 1"),
    ("t.equal('1', 1, 'id')", 'id: expected 1, got "1"'),
    ("t.equal({}, {})", "t.same compares contents"),
    ("t.equal('a\\nb', 'a\\nc')", "  a\n- c\n+ b\n"),
    ("t.same(nil, false)", "expected false, got nil"),
    ("t.raises(function() end)", "it did not raise an error"),
    ("t.raises(function() error('x') end, 'y')",
     'expected an error with "y", got "spec/a_spec.lua:2: x"'),
    ("t.match('moon', '^s')", 'expected a match of "^s", got "moon"'),
    ("t.match(nil, 'x')", 'expected a match of "x", got nil'),
    ("assert(nil, 'the message')", "the message"),
    ("assert(false, { code = 7 })", "the error is a table: { code = 7 }"),
])
def test_assertions_say_what_is_wrong(tmp_path, statement, message):
    text = run_spec(tmp_path, f"""
it("asserts", function() {statement} end)""", code=1)
    assert sums(text) == (0, 1, 0, 0)
    part = section(text, "asserts")
    assert part.startswith("Failure -> spec/a_spec.lua:2\n")
    assert message in part


def test_assertions_return_what_they_saw(tmp_path):
    run_spec(tmp_path, """
it("returns", function()
    local value = {}
    assert(t.same(value, {}) == value and t.equal(value, value) == value)
    assert(t.match("a7b", "%d") == "7" and t.match("ab", "(a)(b)") == "a")
    assert(t.raises(function() error(value) end) == value)
    local a, b = assert(1, 2)
    assert(a == 1 and b == 2 and not pcall(assert))
    local ok, message = pcall(assert, false, "as Lua's own")
    assert(not ok and message == "as Lua's own")
end)
""")


@pytest.mark.parametrize("statement, message", [
    ('it("inner", function() end)', "it belongs into a describe or the file"),
    ("before_each(function() end)", "before_each belongs into a describe"),
    ('t.request(app, "GET", "users")', "the path must be one such as"),
    ('t.request(app, "get", "/")', "the method must be one such as"),
    ('t.request({}, "GET", "/")', "is not the app under test"),
    ('t.request(app, "GET", "/", { jason = 1 })', "did you mean 'json'?"),
    ('t.request(app, "GET", "/", { session = "ann" })',
     "session must be a table"),
    ('t.request(app, "GET", "/", { session = { user = print } })',
     "session.user cannot be kept"),
    ('t.request(app, "GET", "/", { session = { 1 } })',
     "a key of session must be a string"),
    ('t.request(app, "GET", "/", { body = "", json = 1 })',
     "body and json exclude each other"),
    ('t.request(app, "GET", "/", { headers = { ["X-A"] = "a\\nb" } })',
     'the header "X-A" cannot be sent'),
    ('t.request(app, "GET", "/", { scheme = "ftp" })',
     'the scheme must be "http" or "https"'),
    ('t.request(app, "GET", "/", { ip = "my host" })',
     'the ip must be an address, not "my host"'),
    ('t.request(app, "GET", "/warn"):json()', "the body is not JSON: "),
    ('t.client(app):fetch("/")', "a client has no method 'fetch'"),
    ('t.client(app).ips = "x"', "a client has no field 'ips', did you mean 'ip'"),
    ("t.advance(-1)", "the time must be a duration"),
    ("globl = 1", "assignment to the new global 'globl'"),
    ("return globl", "the global 'globl' is not defined"),
])
def test_wrong_use_names_the_line(tmp_path, statement, message):
    text = run_spec(tmp_path, f"""
it("is wrong", function()
    {statement}
end)""", code=1)
    part = section(text, "is wrong")
    assert part.startswith("Error -> spec/a_spec.lua:3\n")
    assert message in part


# ---- hooks ----

def test_hooks_run_from_outside_in_and_back(tmp_path):
    text = run_spec(tmp_path, """
setup(function() print("setup") end)
teardown(function() print("teardown") end)
before_each(function() print("before") end)
after_each(function() print("after") end)
describe("group", function()
    setup(function() print(" setup") end)
    teardown(function() print(" teardown") end)
    before_each(function() print(" before 1") end)
    before_each(function() print(" before 2") end)
    after_each(function() print(" after") end)
    it("one", function() print("  one") end)
    it("two", function() print("  two"); error("no") end)
end)
describe("without tests", function()
    setup(function() print("never") end)
end)
""", code=1)
    printed = text.split("Output of spec/a_spec.lua\n")[1].split("\n\n")[0]
    assert printed.splitlines() == [
        "setup", " setup",
        "before", " before 1", " before 2", "  one", " after", "after",
        "before", " before 1", " before 2", "  two", " after", "after",
        " teardown", "teardown"]


def test_a_failing_hook_fails_its_tests(tmp_path):
    text = run_spec(tmp_path, """
describe("before", function()
    before_each(function() error("no start") end)
    after_each(function() print("cleaned") end)
    it("x", function() print("not run") end)
end)
describe("after", function()
    after_each(function() assert(false, "no end") end)
    it("x", function() end)
end)
describe("setup", function()
    setup(function() error("no setup") end)
    it("x", function() print("not run") end)
    it("y", function() print("not run") end)
end)
describe("teardown", function()
    teardown(function() error("no teardown") end)
    it("x", function() end)
end)
""", code=1)
    assert sums(text) == (1, 1, 4, 0)
    assert "cleaned" in text and "not run\n" not in text
    part = section(text, "before x")
    assert part.startswith("Error -> spec/a_spec.lua:3\n")
    assert "\nbefore_each at spec/a_spec.lua:3: no start\n" in part
    assert "after_each at spec/a_spec.lua:8: no end" in section(text, "after x")
    assert "setup at spec/a_spec.lua:12: no setup" in section(text, "setup x")
    assert "not run, because setup at spec/a_spec.lua:12 failed" in \
        section(text, "setup y")
    assert "no teardown" in section(text, "teardown teardown")


def test_pending_in_a_hook_skips_its_tests(tmp_path):
    text = run_spec(tmp_path, """
describe("before", function()
    before_each(function() pending("no store here") end)
    it("x", function() error("not run") end)
end)
describe("setup", function()
    setup(function() pending("no store there") end)
    it("x", function() error("not run") end)
    it("y", function() error("not run") end)
end)
""")
    assert sums(text) == (0, 0, 0, 3)
    assert "no store here" in section(text, "before x")
    assert "no store there" in section(text, "setup x")
    assert "no store there" in section(text, "setup y")


# ---- what goes wrong beyond a test ----

def test_a_crash_is_told_of_and_the_rest_runs(tmp_path):
    text = run_specs(tmp_path, {"spec/a_spec.lua": """
describe("memory", function()
    it("is fine", function() end)
    it("is not", function()
        print("printed before")
        moonshine.log.warn("logged before")
        require("ffi").cast("int *", nil)[0] = 1
    end)
    it("is never looked at", function() end)
    it("nor here", function() end)
end)
""", "spec/b_spec.lua": 'it("runs", function() end)'}, code=1).stdout
    assert sums(text) == (2, 0, 1, 0)
    part = section(text, "memory is not")
    assert part.startswith("Error -> spec/a_spec.lua:4\n")
    if not SANITIZED:  # else the sanitizer ends the process, in its own way
        assert "it ended the test process (SIGSEGV)" in part
    assert "2 tests of this file did not run" in part
    assert "warn   logged before" in part
    assert "printed before" in text


def test_a_process_that_leaves_is_an_error(tmp_path):
    text = run_spec(tmp_path, """
require("ffi").cdef "void _exit(int);"
describe("group", function()
    before_each(function() require("ffi").C._exit(0) end)
    it("leaves", function() end)
end)
""", code=1)
    assert "it left the test process (exit code 0) (in before_each at " \
        "spec/a_spec.lua:4)" in section(text, "group leaves")


def test_an_endless_loop_is_stopped_and_named(tmp_path):
    text = run_spec(tmp_path, """
it("spins", function()
    pcall(function()
        while true do
        end
    end)
end)
it("goes on", function() end)
""", "--timeout", "1s", code=1)
    assert sums(text) == (1, 0, 1, 0)
    part = section(text, "spins")
    assert part.startswith("Error -> spec/a_spec.lua:4\n")
    assert "it ran for more than 1 s without waiting: an endless loop?" in part


def test_a_test_that_waits_for_ever_is_ended(tmp_path):
    text = run_spec(tmp_path, """
after_each(function() print("cleaned") end)
it("waits", function()
    pcall(function() moonshine.sleep("1h") end)
    print("swallowed")
end)
it("goes on", function() end)
""", "--timeout", "1s", code=1)
    assert sums(text) == (1, 0, 1, 0)
    part = section(text, "waits")
    assert part.startswith("Error -> spec/a_spec.lua:4\n")
    assert "it was not done after 1 s" in part
    assert text.count("cleaned") == 2 and "swallowed" not in text


def test_a_test_stuck_in_c_is_killed(tmp_path):
    text = run_specs(tmp_path, {"spec/a_spec.lua": """
require("ffi").cdef "int poll(void *, unsigned long, int);"
it("is stuck", function() require("ffi").C.poll(nil, 0, 100000) end)
it("never runs", function() end)
""", "spec/b_spec.lua": 'it("runs", function() end)'},
                     "--timeout", "1s", code=1).stdout
    assert sums(text) == (1, 0, 1, 0)
    part = section(text, "is stuck")
    assert part.startswith("Error -> spec/a_spec.lua:3\n")
    assert "nor could it be stopped" in part
    assert "1 test of this file did not run" in part


@pytest.mark.parametrize("text, place, message", [
    ("\nit('x', function()", "spec/a_spec.lua:2", "'end' expected"),
    ("\nit('x')\nerror('at the top')", "spec/a_spec.lua:3", "at the top"),
    ("\nwhile true do end", "spec/a_spec.lua:2", "an endless loop?"),
    ("\nrequire 'nothing'", "spec/a_spec.lua:2", "module 'nothing' not found"),
])
def test_a_spec_file_that_does_not_load(tmp_path, text, place, message):
    text = run_specs(tmp_path, {
        "spec/a_spec.lua": text, "spec/b_spec.lua": 'it("runs", function() end)',
    }, "--timeout", "1s", code=1).stdout
    assert sums(text)[:3] == (1, 0, 1)
    assert f"Error -> {place}\n" in text and message in text


def test_a_describe_that_fails_keeps_the_other_tests(tmp_path):
    text = run_spec(tmp_path, """
describe("bad", function()
    it("was collected", function() end)
    error("halfway")
end)
it("runs", function() end)
""", code=1)
    assert sums(text) == (2, 0, 1, 0)
    assert "halfway" in section(text, "bad")


@pytest.mark.parametrize("app, place, message", [
    ("app:get('/', 7)", "app.lua:1", "handler"),
    ("app:get(", "app.lua:2", "unexpected symbol"),
    ("\napp:on_start(function() error('no database') end)", "app.lua:2",
     "no database"),
    ("require('ffi').cast('int *', nil)[0] = 1", None, "crashed while loading"),
])
def test_an_app_that_does_not_load_is_said_once(tmp_path, app, place, message):
    done = run_specs(tmp_path, {
        "app.lua": app, **{f"spec/{name}_spec.lua": 'it("x", function() end)'
                           for name in "abcd"},
    }, code=1)
    if SANITIZED and place is None:
        message = "ended its process while loading"
    assert sums(done.stdout) == (0, 0, 1, 0)
    part = section(done.stdout, "the application does not load")
    assert message in part
    assert place is None or part.startswith(f"\nError -> {place}\n") or \
        part.startswith(f"Error -> {place}\n")
    assert "4 spec files did not run" in done.stderr


def test_no_task_for_a_test(tmp_path):
    text = run_spec(tmp_path, 'it("x", function() end)', "--set", "max_tasks=1",
                code=1)
    assert "too many tasks run (max_tasks)" in text


def test_memory_and_cpu_limits_of_handlers_hold(tmp_path):
    text = run_specs(tmp_path, {"app.lua": """
app:get("/spin", function() while true do end end)
""", "spec/a_spec.lua": """
it("sees a 503", function()
    t.equal(t.request(app, "GET", "/spin").status, 503)
    t.match(t.log()[2].message, "cpu limit of 100 ms exceeded")
end)
it("is bounded itself", function()
    local list = {}
    for i = 1, 1e9 do list[i] = { i } end
end)
"""}, "--set", "cpu_limit=100ms", code=1).stdout
    assert sums(text) == (1, 0, 1, 0)
    assert "memory limit of 64 MiB exceeded" in text
