"""Every command and snippet of the READMEs does what the text around it says.

lua/README.md has a test of its own. A block that no test here runs fails
test_no_block_is_left_out.
"""

import configparser
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from fire import site
from fire.ledger import Clients
from support.client import Client
from support.crowd import APP as CROWD_APP, Crowd
from support.driver import Driver
from support.injector import Faults
from support.node import (BINARY, ROOT, Node, environment, eventually,
                          free_port)
from support.servers import RedisServer

DOCUMENTS = ["README.md", "apps/README.md", "core/README.md",
             "tests/README.md", "vendor/README.md", "apps/cluster.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
BLOCKS = {(path, language, text)
          for path in DOCUMENTS
          for language, text in BLOCK.findall((ROOT / path).read_text())}
RUN = set()
IN_BUILD_TREE = BINARY == str(ROOT / "build/release/core/moonshine")


def block(path, language, start):
    """The one block of a document that starts like this."""
    found = [b for b in BLOCKS if b[:2] == (path, language) and
             b[2].startswith(start)]
    assert len(found) == 1, (path, language, start)
    RUN.add(found[0])
    return found[0][2]


class Shell:
    """Runs commands as they are written, but for ports, in a home of its
    own. `moonshine` is the binary under test."""

    def __init__(self, home, cwd=ROOT):
        self.home = home
        self.cwd = cwd
        self.ports = {}
        self.words = {"build/release/core/moonshine": "moonshine"}
        self.background = []
        (home / "bin").mkdir(parents=True)
        (home / "bin/moonshine").symlink_to(BINARY)
        self.env = environment({
            "HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"),
            "XDG_STATE_HOME": str(home / "state"),
            "PATH": f"{home}/bin:{os.environ['PATH']}"})

    def port(self, number):
        """The free port that stands for one of the text."""
        return self.ports.setdefault(str(number), free_port())

    def translate(self, text):
        for old, new in self.words.items():
            text = text.replace(old, new)
        return re.sub(r"\b80\d\d\b", lambda m: str(self.port(m[0])), text)

    def run(self, text, code=0):
        done = subprocess.run(
            ["bash", "-euc", self.translate(text)], env=self.env,
            cwd=self.cwd, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=100, check=False)
        assert done.returncode == code, (text, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def serve(self, text, port):
        """A command that stays; returns once the port answers."""
        log = open(self.home / "log", "ab")
        process = subprocess.Popen(
            ["bash", "-euc", "exec " + self.translate(text)], env=self.env,
            cwd=self.cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True)
        log.close()
        self.background.append(process)

        def ready():
            assert process.poll() is None, (self.home / "log").read_text()
            try:
                return self.get(port, "/-/ready").status == 200
            except OSError:
                return False
        eventually(ready, f"{text} serves", 60)
        return process

    def get(self, port, target, method="GET", body=None):
        with Client(("127.0.0.1", self.port(port))) as client:
            return client.request(method, target, body=body)

    def end(self):
        for process in self.background:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.background:
            try:
                process.wait(30)
            finally:
                process.kill()


@pytest.fixture
def shell(tmp_path):
    it = Shell(tmp_path / "home")
    yield it
    it.end()


# README.md

def test_first_route_and_reload(shell, tmp_path):
    code = block("README.md", "lua", "local moonshine")
    assert code == (ROOT / "apps/hello/app.lua").read_text()
    app = tmp_path / "hello"
    shutil.copytree(ROOT / "apps/hello", app)
    shell.words["apps/hello"] = str(app)
    # The command says no port; the others find the node by its default name.
    shell.env["MOONSHINE_LISTEN"] = shell.translate("127.0.0.1:8080")
    run = block("README.md", "sh", "build/release/core/moonshine run")
    node = shell.serve(run, 8080)
    said = shell.run(block("README.md", "sh", "curl http"))
    assert '{"hello":"moon"}' in said
    assert shell.get(8080, "/").text == "Hello, World!\n"

    text = block("README.md", "sh", "build/release/core/moonshine reload")
    by_command, by_signal = text.splitlines()
    promised = "generation 2 live on 2 workers (2 routes)"
    assert promised in " ".join((ROOT / "README.md").read_text().split())
    (app / "app.lua").write_text(code.replace("World", "Moon"))
    assert promised in shell.run(by_command)
    assert shell.get(8080, "/").text == "Hello, Moon!\n"
    (app / "app.lua").write_text(code.replace("World", "Sun"))
    shell.run(by_signal)
    eventually(lambda: shell.get(8080, "/").text == "Hello, Sun!\n")
    (app / "app.lua").write_text("app:get(")
    assert "app.lua:1" in shell.run(by_command, code=1)

    text = block("README.md", "sh", "build/release/core/moonshine status")
    status, rollback, stop = text.splitlines()
    assert "generation   3 (2 routes)" in shell.run(status)
    shell.run(rollback)
    assert shell.get(8080, "/").text == "Hello, Moon!\n"
    shell.run(stop)
    assert node.wait(30) == 0


def test_sessions(shell):
    shell.words["jar"] = str(shell.home / "jar")
    shell.serve("moonshine run apps/demo --listen 127.0.0.1:8080", 8080)
    said = shell.run(block("README.md", "sh", "curl -c"))
    assert '{"count":1}{"count":2}' in said


def test_sessions_of_two_nodes(shell):
    shell.words["jar"] = str(shell.home / "jar")
    text = block("README.md", "sh", "export MOONSHINE_SESSION_URL")
    with RedisServer() as redis:
        export, *lines = text.replace("6379", str(redis.port)).splitlines()
        name, _, url = export.removeprefix("export ").partition("=")
        shell.env[name] = url
        for line, port in zip(lines[:2], (8081, 8082)):
            shell.serve(line.removesuffix(" &"), port)
        for number, line in enumerate(lines[2:], 1):
            assert f'{{"count":{number}}}' in shell.run(line)
        shell.end()


def test_hello_is_ten_lines():
    lines = (ROOT / "apps/hello/app.lua").read_text().splitlines()
    assert len(lines) == 10


# apps/README.md

@pytest.mark.parametrize("path, text", [("README.md", "apps/run\n"),
                                        ("apps/README.md", "apps/run --dev")])
def test_demo(shell, path, text):
    command = block(path, "sh", text)
    shell.env["MOONSHINE_LISTEN"] = shell.translate("127.0.0.1:8080")
    if not IN_BUILD_TREE:
        pytest.skip("apps/run builds and runs the release build")
    shell.serve(command, 8080)
    for target, status in (
            ("/", 200), ("/hello", 200), ("/users/7", 200), ("/users/x", 404),
            ("/sleep?ms=5", 200), ("/stream?ms=0", 200), ("/panic", 500),
            ("/spin", 503), ("/hog", 503), ("/assets/style.css", 200),
            ("/nowhere", 404)):
        assert shell.get(8080, target).status == status, target
    echo = shell.get(8080, "/echo", "POST", "x" * 3000000)
    assert echo.body == b"x" * 3000000
    if "--dev" not in text:
        assert shell.get(8080, "/crash").status == 404


def test_a_new_one(tmp_path):
    shell = Shell(tmp_path / "home", tmp_path)
    said = shell.run(block("apps/README.md", "sh", "moonshine new shop"))
    assert "Next:" in said and " 0 failures" in said
    library = json.loads((tmp_path / "shop/.luarc.json").read_text())[
        "workspace.library"]
    assert pathlib.Path(library[0], "moonshine/init.lua").exists()


def test_while_you_write_one(tmp_path):
    shutil.copytree(ROOT / "apps/demo", tmp_path / "shop")
    shell = Shell(tmp_path / "home", tmp_path)
    shell.env["MOONSHINE_LISTEN"] = shell.translate("127.0.0.1:8080")
    source = tmp_path / "shop/app.lua"
    code = source.read_text()
    try:
        shell.serve(block("apps/README.md", "sh", "moonshine run --dev"), 8080)
        said = shell.run(block("apps/README.md", "sh", "moonshine check shop"))
        assert "ok: 15 routes" in said and "/users/:id<int>" in said
        source.write_text("app:get(" + code)
        eventually(lambda: "app.lua:" in shell.get(8080, "/hello").text)
        source.write_text(code.replace("Hello, World!", "saved"))
        eventually(lambda: shell.get(8080, "/hello").text == "saved\n")
        assert "lib/faults.lua:7" in shell.get(8080, "/panic").text
    finally:
        shell.end()


def test_install(shell, tmp_path):
    command = block("apps/README.md", "sh", "vendor/install")
    if not IN_BUILD_TREE:
        pytest.skip("these commands make the release build")
    shell.words["/usr/local"] = str(tmp_path / "prefix")
    shell.run(command)
    assert os.access(tmp_path / "prefix/bin/moonshine", os.X_OK)


def test_unit(tmp_path):
    """systemd itself is not started here: it reads the unit and the commands
    are looked at; test_install.py runs what the unit runs."""
    commands = block("apps/README.md", "sh", "systemctl daemon-reload")
    commands += block("apps/README.md", "sh", "systemctl enable --now "
                      "moonshine@shop.socket")
    socket = (ROOT / "apps/deploy/moonshine@.socket").read_text()
    path = re.search(r"# (\S+\.sock)$", commands, re.M)[1]
    assert f"ListenStream={path.replace('shop', '%i')}\n" in socket
    for line in commands.splitlines():
        assert re.match(r"systemctl (daemon-reload|(enable --now|reload|stop) "
                        r"moonshine@shop)|journalctl -u moonshine@shop", line)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    unit = (ROOT / "apps/deploy/moonshine@.service.in").read_text()
    (tmp_path / "moonshine@.service").write_text(
        unit.replace("@bindir@", str(pathlib.Path(BINARY).parent)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no",
         str(tmp_path / "moonshine@.service")],
        capture_output=True, text=True, check=False)
    assert "moonshine@" not in done.stderr, done.stderr


def test_status_of_a_named_node(shell):
    other = configparser.ConfigParser()
    other.optionxform = str
    other.read_string(block("apps/README.md", "ini", "[Service]"))
    name, _, value = other["Service"]["Environment"].partition("=")
    shell.env[name] = shell.translate(value)
    shell.serve(f"moonshine run {ROOT}/apps/hello --name shop", 8082)
    shell.env.pop(name)
    lines = block("apps/README.md", "sh", "moonshine status").splitlines()
    assert "shop: ready" in shell.run(lines[0])
    assert len(lines) == 2
    shell.run(lines[1])


def test_upgrade(shell):
    run = shell.home / "run/moonshine"
    shell.words["/run/moonshine"] = str(run)
    shell.serve(f"moonshine run {ROOT}/apps/hello --name shop --listen 8080",
                8080)
    lines = block("apps/README.md", "sh", "kill -USR2").splitlines()
    assert len(lines) == 3
    assert re.match(r"systemctl kill --kill-whom=main --signal=USR2 "
                    r"moonshine@shop$", lines[1])
    before = (run / "shop/pid").read_text()
    shell.run(lines[0])
    assert shell.background[0].wait(30) == 0
    try:
        assert (run / "shop/pid").read_text() != before
        assert "last upgrade succeeded" in shell.run(lines[2])
        assert shell.get(8080, "/").status == 200
    finally:
        shell.run("moonshine stop --name shop")


def test_container():
    """There may be no docker here; test_deploy.py runs what the image runs."""
    build, run = block("apps/README.md", "sh", "docker build").splitlines()
    file, app, tag = re.fullmatch(r"docker build -f (\S+) --build-arg "
                                  r"APP=(\S+) -t (\S+) \.", build).groups()
    assert (ROOT / file).exists() and (ROOT / app / "app.lua").exists()
    head = (ROOT / file).read_text()
    assert build in head
    seconds, port, image = re.fullmatch(
        r"docker run --rm --stop-timeout (\d+) -p 127\.0\.0\.1:8080:(\d+) "
        r"(\S+)", run).groups()
    assert image == tag and f"EXPOSE {port}\n" in head
    drain = re.search(r'"drain_timeout", "(\d+)s"',
                      (ROOT / "core/base/config.h").read_text())[1]
    assert int(seconds) > int(drain)


def test_deploy(shell, tmp_path):
    shell.cwd = tmp_path
    for release in ("42", "43"):
        shutil.copytree(ROOT / "apps/hello", tmp_path / "releases" / release)
    new = tmp_path / "releases/43/app.lua"
    new.write_text(new.read_text().replace("World", "Moon"))
    (tmp_path / "current").symlink_to("releases/42")
    shell.serve("moonshine run current --name shop --listen 8080", 8080)
    lines = block("apps/README.md", "sh", "moonshine check releases").splitlines()
    assert len(lines) == 3
    for line, answer in zip(lines, ("World", "Moon", "World")):
        shell.run(line)
        assert shell.get(8080, "/").text == f"Hello, {answer}!\n"


# Behind nginx

def nginx(shell, config, port):
    """Serves this configuration as people would, but without being root."""
    home = shell.home / "nginx"
    home.mkdir()
    config = re.sub(r"listen \d+;", f"listen 127.0.0.1:{port};",
                    config.replace("/var/log/nginx", str(home)))
    paths = "".join(f"{kind}_temp_path {home}/{kind};\n" for kind in
                    ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (home / "nginx.conf").write_text(
        f"daemon off; pid {home}/pid; error_log {home}/error;\n"
        f"events {{}}\nhttp {{\n{paths}{config}}}\n")
    shell.background.append(subprocess.Popen(
        ["nginx", "-p", str(home), "-c", str(home / "nginx.conf")],
        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def ready():
        try:
            Client(("127.0.0.1", port)).close()
            return True
        except OSError:
            return False
    eventually(ready, "nginx listens")


WHO = '''
local moonshine = require "moonshine"
local app = moonshine.app()
app:get("/", function(c)
    return { node = moonshine.node(), host = c:header("Host"),
             client = c:ip() }
end)
return app
'''


@pytest.mark.parametrize("path, file", [
    ("README.md", "app.conf"), ("apps/README.md", "shop.conf")])
def test_two_nodes_behind_nginx(shell, tmp_path, path, file):
    make = block(path, "sh", "moonshine nginx")
    nodes = block("apps/README.md", "sh", "moonshine run shop").splitlines()
    reload = block("apps/README.md", "sh", "moonshine reload --nodes")
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    shell.cwd = tmp_path
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/app.lua").write_text(WHO)
    for line, port in zip(nodes, (8081, 8082)):
        shell.serve(line, port)
    shell.run(make)
    front = free_port()
    nginx(shell, (tmp_path / file).read_text(), front)
    seen = set()
    with Client(("127.0.0.1", front), source="127.9.8.7") as client:
        for _ in range(8):
            answer = client.get("/").json()
            assert answer["host"] == "test.local"
            assert answer["client"] == "127.9.8.7"
            seen.add(answer["node"])
        assert seen == {"a", "b"}
        shell.words["--settle 5s"] = "--settle 10ms"
        said = shell.run(reload)
        assert re.search("a: generation 2 live.*b: generation 2 live", said,
                         re.S)
        # A node that drains costs no request.
        shell.background[0].send_signal(signal.SIGTERM)
        for _ in range(20):
            assert client.get("/").status == 200
    assert shell.background[0].wait(30) == 0


# tests/README.md, vendor/README.md

def test_options_of_the_test_runner(shell):
    commands = block("tests/README.md", "sh", "tests/run") + \
        block("README.md", "sh", "tests/run")
    said = shell.run("tests/run --help")
    for option in re.findall(r"--[a-z-]+", commands):
        assert option == "--help" or f"  {option} " in said
    if IN_BUILD_TREE:
        assert "vm_json" in shell.run("ctest -N --test-dir build/release")


def test_example_of_a_test(start):
    space = {}
    exec(block("tests/README.md", "python", "def test_greets"), space)
    tests = [value for name, value in space.items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0](start)


def test_example_of_a_test_of_the_redis_client():
    space = {"Driver": Driver, "RedisServer": RedisServer}
    exec(block("tests/README.md", "python", "def test_pipeline"), space)
    space["test_pipeline"]()


def test_example_of_a_crowd():
    exec(block("tests/README.md", "python", "with RedisServer(append"),
         {"Crowd": Crowd, "Node": Node, "RedisServer": RedisServer,
          "APP": CROWD_APP})


def test_example_of_faults(start):
    exec(block("tests/README.md", "python", "with Faults()"),
         {"Faults": Faults, "start": start,
          "APP": 'app:get("/", function() return "" end)'})


def test_sweeps_of_faults(shell):
    commands = block("tests/README.md", "sh", "tests/faults/sweep")
    said = shell.run("tests/faults/sweep --help")
    for option in re.findall(r"--[a-z-]+", commands):
        assert option in said


def test_example_of_fire():
    exec(block("tests/README.md", "python", "with site.demo()"),
         {"site": site, "Clients": Clients})


def test_coverage_by_hand(shell, tmp_path):
    shell.words["build/lua-lines"] = str(tmp_path / "lines")
    shell.env.update(MOONSHINE_BIN=BINARY, PYTHONDONTWRITEBYTECODE="1",
                     PYTEST_ADDOPTS="-p no:cacheprovider")
    said = shell.run(block("tests/README.md", "sh",
                           "mkdir -p build/lua-lines"))
    assert re.search(r"^moonshine/tasks.lua +\d+ +\d+ +[\d.]+%", said, re.M)
    assert re.search(r"^total +\d{4} +\d{4} +[\d.]+%$", said, re.M)
    assert "file " in said and "\n  " in said.split("total")[1]


def test_packages(shell):
    lines = block("vendor/README.md", "sh", "vendor/install").splitlines()
    assert "packages are installed" in shell.run(lines[0])
    assert len(lines) == 2
    shell.run("vendor/install --help")


def anchors(text):
    """What GitHub calls the headings of a document."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text,
                                             flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            for title in titles}


def test_links_lead_somewhere():
    pages = {path for directory in ("", "apps", "core", "lua", "tests",
                                    "vendor")
             for path in (ROOT / directory).glob("*.md")}
    pages |= {ROOT / path for path in DOCUMENTS}
    wrong = []
    for page in pages:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            if "://" in link:
                continue
            if not target.exists() or \
                    anchor and anchor not in anchors(target.read_text()):
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert len(pages) > 8 and not wrong, wrong


# apps/cluster.md

def test_from_one_node_to_a_cluster(shell, tmp_path):
    page = "apps/cluster.md"
    shell.cwd = tmp_path
    (tmp_path / "shop").mkdir()
    source = tmp_path / "shop/app.lua"
    source.write_text(WHO)
    node = shell.serve(block(page, "sh", "moonshine run shop"), 8080)
    node.send_signal(signal.SIGTERM)
    assert node.wait(30) == 0
    for start in ('-- config.lua\nreturn {\n    redis = { url = env',
                  '-- config.lua\nreturn {\n    redis = { url = "redis+sent'):
        (tmp_path / "shop/config.lua").write_text(block(page, "lua", start))
        assert "ok: " in shell.run("moonshine check shop")
    (tmp_path / "shop/config.lua").unlink()
    if shutil.which("nginx") is not None:
        many = block(page, "sh", "moonshine cluster shop")
        shell.words["moonshine cluster shop"] = \
            "moonshine cluster shop --listen 127.0.0.1:8080"
        address = f"127.0.0.1:{shell.port(8080)}"
        cluster = subprocess.Popen(
            ["bash", "-euc", "exec " + shell.translate(many)], env=shell.env,
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True)
        shell.background.append(cluster)
        said = cluster.stdout.readline()
        assert said.startswith(f"3 nodes behind http://{address}/"), said
        assert {shell.get(8080, "/").json()["node"] for _ in range(6)} == \
            {"node-1", "node-2", "node-3"}
        cluster.send_signal(signal.SIGINT)
        assert cluster.wait(30) == 0
        cluster.stdout.close()


def test_a_deploy_to_the_nodes_of_the_list(shell, tmp_path):
    page = "apps/cluster.md"
    token = tmp_path / "admin-token"
    token.write_text("not to be guessed\n")
    shell.cwd = tmp_path
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/app.lua").write_text(WHO)
    with RedisServer() as redis:
        shell.words["redis://10.0.0.5:6379/0"] = redis.url
        shell.words["/etc/moonshine/admin-token"] = str(token)
        shell.words["--settle 10s"] = "--settle 1s"
        for name, port in (("a", 8081), ("b", 8082)):
            shell.serve(
                f"env MOONSHINE_ADMIN_TOKEN_FILE={token} moonshine run shop "
                f"--name {name} --listen 127.0.0.1:{port} "
                f"--admin 127.0.0.1:{port + 10} "
                f"--set redis.url={redis.url}", port)
        eventually(lambda: redis.cli("ZCARD", "moon:nodes") == "2",
                   "both are on the list")
        look = block(page, "sh", "export MOONSHINE_CLUSTER_URL")
        assert shell.run(look).count(" ready ") == 2
        deploy = block(page, "sh", "moonshine check shop")
        said = shell.run("\n".join(look.splitlines()[:2]) + "\n" + deploy)
        assert "a: settled" in said and "b: settled" in said


# SECURITY.md

def test_what_security_names_is_there():
    """Each test, each setting and each file that a promise leans on."""
    text = (ROOT / "SECURITY.md").read_text()
    said = re.findall(r"`([^`]+)`", text)
    tests = {name for name in said
             if re.fullmatch(r"(http|unit|state|cluster)/\w+\.(py|c)", name)}
    assert len(tests) > 15
    assert [name for name in tests if not (ROOT / "tests" / name).exists()] == []
    files = {name for name in said if name.startswith("apps/")}
    assert [name for name in files if not (ROOT / name).exists()] == []
    keys = set(re.findall(
        r"X\(\w+, \w+,\s*\"([\w.]+)\"",
        (ROOT / "core/base/config.h").read_text().replace("\\\n", "")))
    assert "body_limit" in keys
    settings = {name for name in said
                if re.fullmatch(r"[a-z]+([_.][a-z]+)+", name)} - {
        "config.lua", "crypto.password_hash", "crypto.equal", "moonshine.tcp",
        "moonshine.csrf", "moonshine.basic_auth", "moonshine.limit",
        "moonshine_worker_kills_total"}
    assert settings - keys == set()
    assert len(settings) > 20
    assert "SECURITY.md" in (ROOT / "README.md").read_text()


def test_no_block_is_left_out(request):
    """Runs last, and makes sense only after all others of this file."""
    config = request.config
    if config.option.keyword or any("::" in arg for arg in config.args):
        pytest.skip("not all tests of this file have run")
    left = sorted((b[0], b[2].splitlines()[0]) for b in BLOCKS - RUN)
    assert not left, left
