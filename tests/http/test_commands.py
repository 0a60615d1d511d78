"""Commands against running nodes, and where configuration comes from."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from support.admin import Admin
from support.node import (BINARY, command, environment, eventually,
                          free_port, write_app)

APP = '''
app:get("/", function() return "hello" end)
app:get("/slow", function() moonshine.sleep(30) return "late" end)
app:get("/title", function() return tostring(moonshine.config().title) end)
'''
COMMANDS = ["run", "check", "routes", "route", "reload", "rollback", "status",
            "stop", "nginx", "cluster", "new", "test", "completion", "version"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_fits_the_screen(name):
    done = command(name, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith(f"Usage: moonshine {name}")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert command("help", name).stdout == done.stdout
    assert f"\n  {name} " in command("--help").stdout


def test_help_lists_every_configuration_key():
    done = command("help", "config")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    for key in ("listen", "session.cookie.same_site", "body_limit", "app"):
        assert re.search(rf"^  {re.escape(key)}\b", done.stdout, re.M), key
    assert "; default: 250ms" in done.stdout


def test_output_that_cannot_be_written_is_a_failure():
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([BINARY, "version"], stdout=full, check=False)
    assert done.returncode == 1


def test_the_application_comes_from_the_environment(tmp_path):
    app = write_app(tmp_path / "app", APP)
    done = command("check", env={"MOONSHINE_APP": str(app)})
    assert done.returncode == 0, done
    assert "ok: 3 routes" in done.stdout


@pytest.mark.parametrize("key, value, hint", [
    ("MOONSHINE_WORKERS", "many", "MOONSHINE_WORKERS: workers"),
    ("MOONSHINE_HEADER_TIMEOUT", "soon", "expected a duration"),
    ("MOONSHINE_ADMIN_TOKEN_FILE", "/not/there", "/not/there"),
    ("MOONSHINE_SESSION_URL", "rediss://:hush@h", "TLS tunnel"),
])
def test_a_wrong_variable_is_named(tmp_path, key, value, hint):
    app = write_app(tmp_path / "app", APP)
    done = command("check", app, env={key: value})
    assert done.returncode == 1, done
    assert hint in done.stderr
    assert "hush" not in done.stderr


def test_config_errors_name_file_line_and_nearest_key(tmp_path):
    app = write_app(tmp_path / "app", {
        "app.lua": APP,
        "config.lua": "return {\n  timeout = '1s',\n  log = { levle = 1 },\n}"})
    done = command("check", app)
    assert done.returncode == 1, done
    assert "config.lua:3: log.levle is not a known key" in done.stderr
    assert '"log.level"' in done.stderr


def test_option_over_environment_over_file(start):
    def node(**options):
        return start({"app.lua": APP, "config.lua": "header_count = 3"},
                     **options)

    def status(running, headers):
        # Host is a header too.
        return running.get("/", [(f"X-{n}", "1")
                                 for n in range(headers - 1)]).status

    by_file = node()
    assert (status(by_file, 3), status(by_file, 4)) == (200, 431)
    by_env = node(env={"MOONSHINE_HEADER_COUNT": "4"})
    assert (status(by_env, 4), status(by_env, 5)) == (200, 431)
    by_option = node(env={"MOONSHINE_HEADER_COUNT": "4"},
                     settings={"header_count": 5})
    assert (status(by_option, 5), status(by_option, 6)) == (200, 431)


def test_relative_paths(start, tmp_path):
    """Of config.lua: relative to APP; of options: to where one stands."""
    node = start({"app.lua": APP, "config.lua": "log = { file = 'a.log' }"},
                 run_dir=os.path.relpath(tmp_path / "run"))
    eventually((node.app / "a.log").exists, "the log beside app.lua")
    assert (tmp_path / "run" / node.name / "admin.sock").exists()
    assert node.command("status").returncode == 0


def test_another_config_file(start, tmp_path):
    config = tmp_path / "other.lua"
    config.write_text("app = { title = 'other' }")
    node = start(APP, "--config", config)
    assert node.get("/title").text == "other"


def test_reload_reads_config_anew_and_names_what_needs_a_restart(start):
    node = start({"app.lua": APP, "config.lua": "app = { title = 'one' }"})
    assert node.get("/title").text == "one"
    node.rewrite({"config.lua": "app = { title = 'two' } "
                                "state_dir = '/tmp/elsewhere' workers = 9"})
    # --workers and --state-dir were given, so the file changes neither.
    assert node.command("reload").returncode == 0
    eventually(lambda: node.get("/title").text == "two", "the new title")
    node.rewrite({"config.lua": "admin = 'unix:/nowhere/a.sock' "
                                "app = { title = 'three' }"})
    assert node.command("reload").returncode == 0
    node.wait_log(r"a restart is needed for it: admin\n")
    eventually(lambda: node.get("/title").text == "three", "the new title")
    node.rewrite({"config.lua": "app = { title = 'four' } wrokers = 1"})
    done = node.command("reload")
    assert done.returncode == 1
    assert 'did you mean "workers"' in done.stderr
    assert node.get("/title").text == "three"


def test_one_node_needs_no_name_and_several_are_listed(start, tmp_path):
    run_dir = tmp_path / "run"
    one = start(APP, name="one", run_dir=run_dir)
    done = command("status", "--run-dir", run_dir)
    assert done.returncode == 0, done
    assert "one" in done.stdout
    start(APP, name="two", run_dir=run_dir)
    done = command("reload", "--run-dir", run_dir)
    assert done.returncode == 1
    assert "one" in done.stderr and "two" in done.stderr
    assert "--name" in done.stderr
    done = command("reload", "--run-dir=" + str(run_dir), "--name=two")
    assert done.returncode == 0, done
    done = command("status", "--run-dir", run_dir, "--name", "three")
    assert done.returncode == 1
    assert "three" in done.stderr and "one" in done.stderr
    assert one.get("/").text == "hello"
    # The environment may name it as well.
    done = command("status", env={"MOONSHINE_RUN_DIR": str(run_dir),
                                  "MOONSHINE_NAME": "one"})
    assert done.returncode == 0, done


def test_several_nodes_in_turn_until_one_fails(start, tmp_path):
    run_dir = tmp_path / "run"
    nodes = [start(APP, name=name, run_dir=run_dir)
             for name in ("a", "b", "c")]
    done = command("reload", "--run-dir", run_dir, "--nodes", "a,b")
    assert done.returncode == 0, done
    assert re.search(r"a: generation 2 .*\nb: generation 2 ", done.stdout)
    nodes[1].rewrite("app:get(")
    done = command("reload", "--run-dir", run_dir, "--nodes", "a, b, c")
    assert done.returncode == 1
    assert "a: generation 3 " in done.stdout
    assert "b: failed: app.lua:" in done.stdout
    assert "left alone: c" in done.stdout
    assert "generation 1" in nodes[2].command("status").stdout


def test_a_dead_nodes_folder_is_no_node(start, tmp_path):
    run_dir = tmp_path / "run"
    dead = start(APP, name="dead", run_dir=run_dir)
    os.kill(dead.pid, signal.SIGKILL)
    dead.expect_exit = -signal.SIGKILL
    dead.process.wait(10)
    done = command("status", "--run-dir", run_dir)
    assert done.returncode == 1
    assert "no node runs here" in done.stderr
    # Its place can be taken.
    start(APP, name="dead", run_dir=run_dir)
    assert command("status", "--run-dir", run_dir).returncode == 0


def test_admin_over_tcp_needs_its_token(start, tmp_path):
    admin = f"127.0.0.1:{free_port()}"
    app = write_app(tmp_path / "app", APP)
    done = command("run", app, "--admin", admin)
    assert done.returncode in (1, 2)
    assert "admin_token" in done.stderr
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    node = start(APP, "--admin", admin,
                 env={"MOONSHINE_ADMIN_TOKEN_FILE": str(token)})
    for env in ({}, {"MOONSHINE_ADMIN_TOKEN": "wrong"}):
        done = command("reload", "--admin", admin, env=env)
        assert done.returncode == 1
        assert "MOONSHINE_ADMIN_TOKEN" in done.stderr
    done = command("reload", "--admin", admin,
                   env={"MOONSHINE_ADMIN_TOKEN": "s3cret"})
    assert done.returncode == 0, done
    assert "generation 2" in done.stdout
    assert "s3cret" not in node.log()


def test_json_answers(start):
    node = start(APP)
    assert json.loads(node.command("status", "--json").stdout)
    answer = json.loads(node.command("reload", "--json").stdout)
    assert answer["ok"] is True
    assert "generation 2" in answer["message"]
    node.rewrite("app:get(")
    refused = node.command("reload", "--json")
    assert refused.returncode == 1 and refused.stderr == ""
    answer = json.loads(refused.stdout)
    assert answer["ok"] is False and "app.lua:2" in answer["error"]


def test_requests_in_flight_are_listed(start):
    node = start(APP)
    client = node.connect()
    client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    done = eventually(
        lambda: (lambda d: d if "/slow" in d.stdout else None)(
            node.command("status", "--requests")), "the request is listed")
    assert done.returncode == 0
    client.close()


def test_requests_of_a_worker_that_does_not_answer(start):
    node = start('app:get("/", function() return "ok" end)', workers=2)
    stopped = Admin(node).workers()[0]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    try:
        shown = node.command("status", "--requests").stdout
        assert "the worker does not answer: it is busy or hangs" in shown
    finally:
        os.kill(stopped, signal.SIGCONT)
    eventually(lambda: "does not answer" not in
               node.command("status", "--requests").stdout, "it answers")


ELSEWHERE = "this machine has no such address"


@pytest.mark.parametrize("listen, user, said", [
    ("192.0.2.1:8080", None, ELSEWHERE),
    ("[2001:db8::1]:8080", None, ELSEWHERE),
    ("unix:{home}/none/a.sock", None, "its directory does not exist"),
    ("unix:{home}/file/a.sock", None, "Not a directory"),
    pytest.param("unix:{home}/a.sock", "nobody",
                 "no permission to create the socket",
                 marks=pytest.mark.skipif(os.getuid() != 0, reason="not root")),
])
def test_where_it_cannot_listen(listen, user, said):
    with tempfile.TemporaryDirectory(prefix="moon-") as home:
        os.chmod(home, 0o755)  # the parents of tmp_path are ours alone
        run_dir = pathlib.Path(home, "run")
        run_dir.mkdir()
        if user:
            shutil.chown(run_dir, user)
        pathlib.Path(home, "file").write_text("")
        where = listen.format(home=home)
        done = subprocess.run(
            [BINARY, "run", write_app(f"{home}/app", APP), "--listen", where,
             "--run-dir", run_dir, "--state-dir", run_dir],
            env=environment({"MOONSHINE_USER": user} if user else None),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, user=user,
            stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"cannot listen on {where}: {said}" in done.stdout, done.stdout


def test_stop_returns_when_the_node_is_gone(start):
    node = start(APP, workers=2)
    assert node.command("stop").returncode == 0
    # Only the exit itself may still be under way.
    assert node.process.wait(5) == 0
    assert node.command("status").returncode == 1


def test_log_to_a_file_reopened_on_hup(start, tmp_path):
    log = tmp_path / "node.log"
    node = start(APP, settings={"log.file": log, "log.format": "json"})
    assert node.get("/").text == "hello"

    def lines():
        return [json.loads(line) for line in
                log.read_text().splitlines()] if log.exists() else []

    eventually(lambda: lines(), "lines in the file")
    assert all({"time", "level", "message"} <= set(line) or "path" in line
               for line in lines())
    log.rename(tmp_path / "node.log.1")
    node.signal(signal.SIGHUP)
    eventually(log.exists, "a new file")
    assert node.get("/").text == "hello"


def test_text_log_has_no_colour_off_a_terminal(start):
    node = start(APP)
    assert "\033[" not in node.log()
    assert re.search(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info ",
                     node.log(), re.M)


def test_a_log_that_nobody_reads_holds_nothing_up(start, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        node = start(APP, workers=2, settings={"log.file": fifo})
        client = node.connect()
        for _ in range(3000):
            assert client.get("/").text == "hello"
        done = node.command("reload")
        assert done.returncode == 0, done
        assert client.get("/").text == "hello"
        node.signal(signal.SIGHUP)
        eventually(lambda: node.command("status").returncode == 0, "status")
        node.stop()
    finally:
        os.close(reader)
