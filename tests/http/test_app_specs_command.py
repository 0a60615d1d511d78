"""`moonshine test`: which spec files run, and how the outcome is said."""

import os
import pty
import re
import signal
import subprocess
import xml.etree.ElementTree as ET

import pytest

from support.node import BINARY, command, environment, eventually, write_app
from support.specs import APP, HEAD, run_spec, run_specs, section, sums


# ---- which tests ----

FILES = {
    "spec/a_spec.lua": """
describe("users", function()
    it("are a.b found", function() print("1") end)
    it("are lost", function() print("2") end)
end)
""",
    "spec/deep/er/b_spec.lua": 'it("users too", function() print("3") end)',
    "spec/helper.lua": "error('no spec')",
    "spec/.hidden_spec.lua": "error('hidden')",
    "other_spec.lua": 'it("elsewhere", function() print("4") end)',
}


def printed(text):
    return re.findall(r"^(\d)$", text, re.M)


def test_all_spec_files_below_spec_are_found(tmp_path):
    assert printed(run_specs(tmp_path, FILES).stdout) == ["1", "2", "3"]


@pytest.mark.parametrize("args, ran", [
    (["--filter", "are a.b"], ["1"]), (["--filter", "users are"], ["1", "2"]),
    (["--filter=users"], ["1", "2", "3"]),
    (["spec/deep"], ["3"]), (["spec/a_spec.lua"], ["1", "2"]),
    (["other_spec.lua", "spec"], ["4", "1", "2", "3"]),
    (["spec/a_spec.lua", "spec/a_spec.lua", "--filter", "lost"], ["2"]),
])
def test_filter_and_named_files(tmp_path, args, ran):
    assert printed(run_specs(tmp_path, FILES, *args).stdout) == ran


def test_files_of_another_directory(tmp_path):
    """Relative to where the command runs; outside of the app by its path."""
    outside = tmp_path / "elsewhere"
    write_app(outside, {"x_spec.lua": 'it("x", function() error("here") end)'})
    done = run_specs(tmp_path / "app", {}, "x_spec.lua", code=1, cwd=outside)
    assert f"Error -> {outside}/x_spec.lua:1\nx\nhere\n" in done.stdout
    app = write_app(tmp_path / "app", {"spec/y_spec.lua": 'it("y")'})
    done = command("test", "spec/y_spec.lua", cwd=app)
    assert (done.returncode, sums(done.stdout)) == (0, (0, 0, 0, 1))


@pytest.mark.parametrize("args, message", [
    ([], "no spec found: looked for *_spec.lua below {}/spec"),
    (["lib"], "no spec found: looked for *_spec.lua below lib"),
    (["nothing_spec.lua"], "nothing_spec.lua: No such file"),
])
def test_no_spec_is_a_failure(tmp_path, args, message):
    done = run_specs(tmp_path, {"lib/x.lua": ""}, *args, code=1)
    assert message.format(tmp_path) in done.stderr and done.stdout == ""


def test_a_filter_that_nothing_matches(tmp_path):
    done = run_specs(tmp_path, FILES, "--filter", "nobody", code=1)
    assert 'no test has "nobody" in its name' in done.stderr


@pytest.mark.parametrize("args, message", [
    (["--timeout", "soon"], "--timeout: "), (["--timeout", "0"], "more than 0"),
    (["--jobs", "0"], "from 1 to 256"), (["--jobs", "two"], "from 1 to 256"),
    (["--fliter", "x"], "did you mean --filter?"),
    (["--set", "cpu_limit"], "--set needs key=value"),
    (["--filter"], "--filter needs a value"),
])
def test_wrong_use_of_the_command(tmp_path, args, message):
    done = run_specs(tmp_path, FILES, *args, code=2)
    assert message in done.stderr


def test_an_app_that_is_one_file(tmp_path):
    write_app(tmp_path, {
        "app.lua": "error('not this one')",
        "shop.lua": 'local app = require("moonshine").app() '
                    'app:get("/", function() return "shop" end) return app',
        "spec/a_spec.lua": HEAD + """
it("is the shop", function()
    t.equal(t.request(app, "GET", "/").body, "shop")
end)"""})
    done = command("test", tmp_path / "shop.lua")
    assert sums(done.stdout) == (1, 0, 0, 0)


def test_configuration(tmp_path):
    run_specs(tmp_path, {
        "config.lua": 'app = { title = "from the file" }\nlog = { file = "x.log"}',
        "app.lua": 'app:get("/", function() return moonshine.config().title end)',
        "spec/a_spec.lua": """
it("is the file's", function()
    t.equal(t.request(app, "GET", "/").body, "from the file")
    t.equal(moonshine.worker().id, 1)
end)"""})
    assert not (tmp_path / "x.log").exists()
    done = run_specs(tmp_path, {}, "--set", "cpu_limt=1s", code=2)
    assert "cpu_limit" in done.stderr


# ---- how it is said ----

def test_junit(tmp_path):
    report = tmp_path / "report.xml"
    run_specs(tmp_path / "app", {"spec/a_spec.lua": """
describe('a <"group"> & more', function()
    it("passes", function() t.request(app, "GET", "/warn") end)
    it("fails", function() assert(false, "bad \\255 <byte> \\27[1m\\n& more") end)
    it("breaks", function() error("x") end)
    it("waits")
end)
""", "spec/deep/b_spec.lua": 'it("prints", function() print("<hello>") end)'},
        "--junit", report, code=1)
    root = ET.parse(report).getroot()
    assert root.tag == "testsuites"
    assert [root.get(key) for key in ("tests", "failures", "errors",
                                      "skipped")] == ["5", "1", "1", "1"]
    first, second = root.findall("testsuite")
    assert first.get("name") == "spec/a_spec.lua"
    assert first.get("failures") == "1" and float(first.get("time")) > 0
    assert second.findtext("system-err") == "<hello>\n"
    assert second.find("testcase").get("classname") == "spec.deep.b_spec"
    passes, fails, breaks, waits = first.findall("testcase")
    assert passes.get("name") == 'a <"group"> & more passes'
    assert (passes.get("file"), passes.get("line")) == ("spec/a_spec.lua", "3")
    assert "warn   careful" in passes.findtext("system-out")
    assert "info   fine" in passes.findtext("system-out")
    failure = fails.find("failure")
    assert failure.get("type") == "assertion"
    assert failure.get("message") == "bad \\xff <byte> \\x1b[1m\n& more"
    assert "spec/a_spec.lua:4" in failure.text
    assert breaks.find("error").get("type") == "error"
    assert waits.find("skipped") is not None


def test_junit_that_cannot_be_written(tmp_path):
    done = run_specs(tmp_path, FILES, "--junit", tmp_path / "no/x.xml", code=1)
    assert "cannot write" in done.stderr and done.stdout == ""


def on_terminal(app, env=None):
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [BINARY, "test", str(app)], env=environment(env), stdout=theirs,
        stderr=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other side is closed
            piece = b""
        if not piece:
            break
        text += piece
    os.close(ours)
    assert process.wait(20) == 1
    return text.decode()


def test_colour_is_for_terminals(tmp_path):
    run_specs(tmp_path, {"spec/a_spec.lua": """
it("passes", function() end)
it("fails", function() t.same({ 1 }, { 2 }) end)
it("waits")
"""}, code=1)
    text = on_terminal(tmp_path)
    assert text.startswith("\33[32m●\33[0m\33[31m●\33[0m\33[33m●\33[0m")
    assert "\33[31mFailure\33[0m → " in text
    assert "\33[31m-   2,\33[0m" in text and "\33[32m+   1,\33[0m" in text
    plain = on_terminal(tmp_path, {"NO_COLOR": "1"})
    assert "\33" not in plain and plain.startswith("+-.")
    assert "\33" not in command("test", tmp_path).stdout


def test_files_side_by_side_are_reported_in_order(tmp_path):
    """The first file waits for the last one, so they run at the same time."""
    files = {"app.lua": "", "spec/a_spec.lua": f"""
it("waits for z", function()
    repeat moonshine.sleep("5ms") until moonshine.read("{tmp_path}/z")
    for i = 1, 3 do print("a" .. i) end
    error("a failed")
end)
""", "spec/z_spec.lua": f"""
it("is quick", function()
    for i = 1, 3 do print("z" .. i) end
    assert(io.open("{tmp_path}/z", "w")):close()
    error("z failed")
end)
it("passes", function() end)
"""}
    text = run_specs(tmp_path, files, "--jobs", "2", code=1).stdout
    assert text.startswith("**+\n")
    assert re.findall(r"^[az]\d$", text, re.M) == \
        ["a1", "a2", "a3", "z1", "z2", "z3"]
    assert text.index("a failed") < text.index("z failed")
    os.unlink(tmp_path / "z")
    text = run_specs(tmp_path, files, "--jobs", "1", "--timeout", "200ms",
                     code=1).stdout
    assert "it was not done after 0.2 s" in section(text, "waits for z")


def test_what_is_printed_is_shown_and_bounded(tmp_path):
    text = run_spec(tmp_path, """
it("prints", function()
    print("one", 2, nil)
    io.write("raw\\n")
    os.execute("echo child")
    io.stderr:write("to stderr\\n")
end)
""")
    assert "\nOutput of spec/a_spec.lua\none\t2\tnil\nraw\nchild\nto stderr\n" \
        in text
    text = run_spec(tmp_path, """
it("prints", function()
    for _ = 1, 2000 do print(("x"):rep(1023)) end
end)
""")
    assert 2 ** 20 - 5000 < len(text) < 2 ** 20 + 500
    assert "(what goes beyond 1 MiB is not kept)" in text


def test_interrupted(tmp_path):
    write_app(tmp_path, {"app.lua": APP, "spec/a_spec.lua": HEAD + f"""
it("passes", function() end)
it("is cut", function()
    assert(io.open("{tmp_path}/started", "w")):close()
    moonshine.sleep("1h")
end)
""", "spec/b_spec.lua": 'it("never begins", function() end)'})
    process = subprocess.Popen(
        [BINARY, "test", str(tmp_path), "--jobs", "1"], env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually((tmp_path / "started").exists, "the test runs")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert sums(out) == (1, 0, 1, 0)
    assert "interrupted" in section(out, "is cut")
    assert "1 spec file did not run" in err
