"""The command line: what it says, and its exit codes (0, 1, 2)."""

import os
import subprocess

import pytest

from support.client import Client
from support.node import BINARY, command, free_port, write_app

APP = '''
app:get("/", function() return "hello" end)
app:get("/users/:id<int>", function(c) return { id = c:param("id") } end,
    { name = "user" })
app:post("/users", function() return nil end)
'''


@pytest.fixture
def app(tmp_path):
    return write_app(tmp_path / "app", APP)


def test_version():
    done = command("version")
    assert done.returncode == 0
    assert done.stdout.startswith("moonshine ")
    assert "." in done.stdout


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"],
                                  ["check", "--help"], ["reload", "--help"],
                                  ["routes", "--help"], ["status", "--help"]])
def test_help(args):
    done = command(*args)
    assert done.returncode == 0
    assert "moonshine" in done.stdout
    assert len(done.stdout.splitlines()) > 3


def test_no_command():
    done = command()
    assert done.returncode == 2
    assert "run" in done.stderr + done.stdout


@pytest.mark.parametrize("args, hint", [
    (["rnu"], "run"), (["run", "--lisen", "1"], "listen"),
    (["run", "--workers"], "workers"),
    (["run", "--workers", "--dev"], "--workers needs a value"), (["run", "--workers", "0"], "workers"),
    (["run", "--workers", "many"], "workers"),
    (["run", "--listen", "nonsense"], "nonsense"),
    (["run", "--listen", "127.0.0.1:99999"], "99999"),
    (["run", "--set", "boddy_limit=1m"], "body_limit"),
    (["run", "--set", "body_limit=wide"], "body_limit"),
    (["run", "--set", "timeout=5parsecs"], "timeout"),
    (["reload", "--nmae", "x"], "name"),
    (["check", "--bogus"], "bogus"),
    (["run", "--port", "80"], "--listen"), (["run", "--watch"], "--dev"),
    (["serve"], "moonshine run"), (["restart"], "moonshine reload"),
    (["-v"], "moonshine version"),
])
def test_wrong_use(app, args, hint):
    if args[0] in ("run", "check"):
        args = [args[0], str(app), *args[1:]]
    done = command(*args)
    assert done.returncode == 2, done
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_check(app):
    done = command("check", app)
    assert done.returncode == 0, done
    assert "ok: 3 routes" in done.stdout


def test_check_in_the_current_directory(app):
    done = command("check", cwd=app)
    assert done.returncode == 0, done


def test_check_of_a_single_file(app):
    done = command("check", app / "app.lua")
    assert done.returncode == 0, done


BROKEN = {
    "syntax": ("app:get(", "app.lua:2"),
    "error": ("error('no luck')", "no luck"),
    "duplicate": ('app:get("/a", print) app:get("/a", print)', "/a"),
    "no function": ('app:get("/a")', "app.lua:1"),
    "reserved": ('app:get("/-/x", print)', "/-/"),
    "bad pattern": ('app:get("/a/:x<float>", print)', "app.lua:1"),
    "no slash": ('app:get("a", print)', "app.lua:1"),
    "unknown option": ('app:get("/a", print, { timout = 1 })', "timeout"),
    "missing module": ('require "nowhere"', "nowhere"),
    "on_start": ('app:on_start(function() error("cold") end)', "cold"),
    "endless": ("while true do end", "app"),
    "exit": ("os.exit(0)", "exit"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_check_finds(tmp_path, name):
    source, hint = BROKEN[name]
    done = command("check", write_app(tmp_path, source))
    assert done.returncode == 1, done
    assert hint in done.stderr + done.stdout
    assert "ok:" not in done.stdout


def test_check_without_an_app(tmp_path):
    done = command("check", tmp_path)
    assert done.returncode in (1, 2)
    assert "app.lua" in done.stderr
    assert command("check", tmp_path / "none").returncode in (1, 2)


def test_check_when_nothing_is_returned(tmp_path):
    done = command("check", write_app(
        tmp_path, {"app.lua": 'require "moonshine"\n'}))
    assert done.returncode == 1
    assert "return" in done.stderr


def test_bad_config(app):
    for text, hint in (("return {", "config.lua:1"),
                       ("return { wokers = 2 }", "workers"),
                       ("return { timeout = 'soon' }", "timeout"),
                       ("while true do end", "config.lua"),
                       ("return { listen = os.getenv('X') }", "os")):
        write_app(app, {"config.lua": text})
        done = command("check", app)
        assert done.returncode in (1, 2), (text, done)
        assert hint in done.stderr, (text, done)


def test_routes(app):
    done = command("routes", app)
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    user = next(line for line in lines if "/users/:id<int>" in line)
    assert "GET" in user and "user" in user and "app.lua:3" in user
    assert any("POST" in line and "/users" in line for line in lines)


def test_run_does_not_start_with_a_broken_app(tmp_path):
    app = write_app(tmp_path / "app", "app:get(")
    done = command("run", app, "--listen", f"127.0.0.1:{free_port()}",
                   "--run-dir", tmp_path / "r", "--state-dir", tmp_path / "s")
    assert done.returncode == 1, done
    assert "app.lua:" in done.stderr


def test_port_in_use(start, app, tmp_path):
    node = start(APP)
    done = command("run", app, "--listen", node.listen,
                   "--run-dir", tmp_path / "r", "--state-dir", tmp_path / "s",
                   "--name", "second")
    assert done.returncode == 1
    assert node.listen in done.stderr
    assert str(node.pid) in done.stderr
    assert node.get("/").text == "hello"


@pytest.mark.parametrize("key", ["temp_dir", "upload.dir", "log.file"])
def test_a_place_that_cannot_be_written_to(app, tmp_path, key):
    none = tmp_path / "none" / "there"
    done = command("run", app, "--listen", f"127.0.0.1:{free_port()}",
                   "--run-dir", tmp_path / "r", "--state-dir", tmp_path / "s",
                   "--set", f"{key}={none}")
    assert done.returncode == 1, done
    assert f"{key}: cannot" in done.stderr and str(none) in done.stderr


def run_dev(app, tmp_path, *args):
    return command("run", app, "--dev", "--run-dir", tmp_path / "r",
                   "--state-dir", tmp_path / "s", *args)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_dev_is_for_this_machine(app, tmp_path, host):
    """Its error pages show source code."""
    address = f"{host}:{free_port()}"
    done = run_dev(app, tmp_path, "--listen", "127.0.0.1:0",
                   "--listen", address)
    assert done.returncode == 1, done
    assert address in done.stderr and "--dev-public" in done.stderr


def test_dev_public_serves_others(start):
    port = free_port()
    node = start(APP, "--dev", "--dev-public", "--listen", f"0.0.0.0:{port}")
    with Client(("127.0.0.1", port)) as client:
        assert client.get("/").text == "hello"
    assert node.get("/").text == "hello"


def test_name_in_use(start, app):
    node = start(APP)
    done = command("run", app, "--listen", f"127.0.0.1:{free_port()}",
                   "--run-dir", node.run_dir, "--state-dir", node.state_dir,
                   "--name", node.name)
    assert done.returncode == 1
    assert node.name in done.stderr
    assert node.get("/").text == "hello"


def test_commands_without_a_node(tmp_path):
    for verb in ("reload", "status", "stop", "rollback"):
        done = command(verb, "--name", "nobody", "--run-dir", tmp_path)
        assert done.returncode == 1, (verb, done)
        assert "nobody" in done.stderr, (verb, done)


def test_reload_says_what_it_did(start):
    node = start(APP, workers=2)
    done = node.command("reload")
    assert done.returncode == 0, done
    assert "generation 2 live on 2 workers (3 routes)" in done.stdout
    node.rewrite("app:get(")
    done = node.command("reload")
    assert done.returncode == 1
    assert "app.lua:" in done.stderr + done.stdout
    assert node.get("/").text == "hello"


def test_status(start):
    node = start(APP, workers=2)
    done = node.command("status")
    assert done.returncode == 0, done
    assert node.name in done.stdout
    parsed = node.command("status", "--json")
    assert parsed.returncode == 0
    import json
    assert json.loads(parsed.stdout)


def test_stop(start):
    node = start(APP)
    assert node.command("stop").returncode == 0
    assert node.process.wait(30) == 0


def test_as_root_the_user_must_be_said(app, tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root must say so")
    env = {k: v for k, v in os.environ.items()
           if not k.startswith("MOONSHINE_")}
    done = subprocess.run(
        [BINARY, "run", str(app), "--listen", f"127.0.0.1:{free_port()}",
         "--run-dir", str(tmp_path / "r"), "--state-dir",
         str(tmp_path / "s")],
        env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=30, check=False)
    assert done.returncode in (1, 2)
    assert "user" in done.stderr


def test_listen_addresses(start, tmp_path):
    for listen in (f"unix:{tmp_path}/s.sock", f"[::1]:{free_port()}"):
        try:
            node = start(APP, listen=listen)
        except AssertionError as error:
            if "[::1]" in listen and "ddress" in str(error):
                pytest.skip("no IPv6 here")
            raise
        assert node.get("/").text == "hello"


def test_several_listeners(start):
    other = free_port()
    node = start(APP, "--listen", f"127.0.0.1:{other}")
    assert node.get("/").text == "hello"
    with Client(("127.0.0.1", other)) as client:
        assert client.get("/").text == "hello"


def test_config_precedence(start):
    node = start({"app.lua": 'app:get("/", function() return '
                             'tostring(moonshine.config().greeting) end)',
                  "config.lua": 'return { body_limit = "10", '
                                'app = { greeting = env("GREETING") } }'},
                 env={"GREETING": "hi", "MOONSHINE_HEADER_COUNT": "5"})
    assert node.get("/").text == "hi"
    assert node.request("POST", "/", body="x" * 11).status in (405, 413)
    assert node.get("/", [(f"X-{n}", "1") for n in range(9)]).status == 431
