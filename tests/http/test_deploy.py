"""apps/deploy: that image and compose file say what the sources and the
configuration know, and that what they start works together."""

import fnmatch
import os
import re
import shlex
import shutil
import signal
import subprocess

import pytest

from support.admin import Admin
from support.client import Client
from support.node import (BINARY, ROOT, Node, command, environment,
                          eventually, free_port)
from support.servers import RedisServer

yaml = pytest.importorskip("yaml")

DEPLOY = ROOT / "apps/deploy"


# ---- the image ----


def instructions():
    """[(name, rest)] of the Dockerfile, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.M)
    lines = text.replace("\\\n", " ").split("\n")
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def variables():
    """What ENV sets."""
    return dict(pair.split("=", 1) for name, rest in instructions()
                if name == "ENV" for pair in shlex.split(rest))


def is_sent(path):
    """By Dockerfile.dockerignore, of which only what we use is known here."""
    sent = True
    for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split():
        pattern, keep = line.lstrip("!"), line.startswith("!")
        parts = path.split("/")
        if pattern.startswith("**/"):
            hit = any(fnmatch.fnmatch(part, pattern[3:]) for part in parts)
        else:
            hit = fnmatch.fnmatch(parts[0], pattern)
        if hit:
            sent = keep
    return sent


def test_what_is_copied_exists_and_is_sent():
    arguments = dict(rest.split("=", 1) for name, rest in instructions()
                     if name == "ARG")
    sources = []
    for name, rest in instructions():
        if name != "COPY" or rest.startswith("--from"):
            continue
        for source in rest.split()[:-1]:
            source = re.sub(r"\$\{(\w+)\}", lambda m: arguments[m[1]], source)
            sources.append(source)
    assert "core" in sources and "apps/demo" in sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_sent(source), source
    assert not is_sent("build") and not is_sent(".git")
    assert not is_sent("apps/deploy/secret")


def test_all_that_the_build_reads_is_copied():
    """Files at the root that CMake wants, besides the folders."""
    copied = " ".join(rest for name, rest in instructions()
                      if name == "COPY").split()
    text = (ROOT / "CMakeLists.txt").read_text()
    folders = re.findall(r"add_subdirectory\((\w+)\)", text)
    folders.remove("tests")  # BUILD_TESTING=OFF
    assert "-DBUILD_TESTING=OFF" in (DEPLOY / "Dockerfile").read_text()
    for entry in (ROOT / "apps/CMakeLists.txt").read_text().split("\n"):
        folders += re.findall(r"\$\{PROJECT_SOURCE_DIR\}/([\w.]+)", entry)
    for name in ["CMakeLists.txt", *folders]:
        assert name in copied, name


def test_the_libraries_of_the_image():
    """Those packages that the binary needs, and no others."""
    if "asan" in BINARY or shutil.which("dpkg-query") is None:
        pytest.skip("for a release build on Debian")
    said = subprocess.run(["ldd", BINARY], stdout=subprocess.PIPE, text=True,
                          check=True).stdout
    packages = set()
    for path in re.findall(r"^\s+lib\S+ => (\S+)", said, re.M):
        where = "/".join(os.path.realpath(path).split("/")[-2:])
        found = subprocess.run(["dpkg-query", "-S", f"*/{where}"],
                               stdout=subprocess.PIPE, text=True, check=True)
        packages |= {line.partition(":")[0]
                     for line in found.stdout.splitlines()}
    packages -= {"libc6", "libgcc-s1"}  # in every image
    run = [rest for name, rest in instructions() if name == "RUN"][-1]
    installed = re.search(r"--no-install-recommends\s+(.*?)&&", run)[1]
    assert set(installed.split()) == packages


def test_who_and_how_it_stops():
    said = {name: rest for name, rest in instructions()}
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", said["USER"])
    assert said["STOPSIGNAL"] == "SIGTERM"
    user = said["USER"].partition(":")[0]
    run = [rest for name, rest in instructions() if name == "RUN"][-1]
    assert f"--uid {user} " in run
    for key in ("MOONSHINE_RUN_DIR", "MOONSHINE_STATE_DIR"):
        assert variables()[key] in run, "it may write there"


@pytest.fixture
def image(tmp_path):
    """A Node as the image starts it, with its own port and folders."""
    env = dict(variables())
    said = {name: rest for name, rest in instructions()}
    words = [*yaml.safe_load(said["ENTRYPOINT"]),
             *yaml.safe_load(said["CMD"])]
    assert words == ["moonshine", "run", "/app"]
    port = env["MOONSHINE_LISTEN"]
    assert said["EXPOSE"] == port.lstrip(":")
    env["MOONSHINE_LISTEN"] = f"127.0.0.1:{free_port()}"
    for key in ("MOONSHINE_RUN_DIR", "MOONSHINE_STATE_DIR"):
        env[key] = str(tmp_path / env[key].lstrip("/"))
        os.makedirs(env[key])
    check = re.search(r"CMD (.*)", said["HEALTHCHECK"])[1]
    assert check.startswith("moonshine ")

    def healthy():
        return subprocess.run(
            ["sh", "-c", check.replace("moonshine", BINARY, 1)],
            env=environment(env), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, check=False).returncode == 0
    return env, healthy


def test_the_image_as_it_runs(image, tmp_path):
    env, healthy = image
    assert not healthy()
    gate = tmp_path / "gate"
    gate.write_text("shut")
    node = Node(f"""
        app:on_start(function()
            while true do
                local file = io.open({str(gate)!r})
                if not file then return end
                file:close()
                moonshine.sleep("20ms")
            end
        end)
        app:get("/", function() return "ok" end)
        app:get("/slow", function() moonshine.sleep("2s") return "" end)
    """, env=env, configured=True, listen=env["MOONSHINE_LISTEN"],
        name=env["MOONSHINE_NAME"], run_dir=env["MOONSHINE_RUN_DIR"],
        state_dir=env["MOONSHINE_STATE_DIR"], wait=False)
    with node:
        node.wait_log("listening")
        assert not healthy()
        gate.unlink()
        eventually(healthy, "it is healthy")
        client = node.connect()
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: Admin(node).requests(), "it runs")
        node.signal(signal.SIGTERM)
        eventually(lambda: not healthy(), "it is not while it drains")
        assert client.read_response().status == 200


# ---- compose ----


def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def nodes():
    return {name: service for name, service in compose()["services"].items()
            if "build" in service}


def seconds(text):
    return float(re.fullmatch(r"(\d+)s", text)[1])


def test_services_fit_the_sources():
    whole = compose()
    assert sorted(nodes()) == ["a", "b", "c"]
    drain = re.search(r'"drain_timeout", "(\w+)"',
                      (ROOT / "core/base/config.h").read_text())[1]
    for name, node in nodes().items():
        context = (DEPLOY / node["build"]["context"]).resolve()
        assert context == ROOT
        assert (ROOT / node["build"]["dockerfile"]).exists()
        assert (ROOT / node["build"]["args"]["APP"] / "app.lua").exists()
        assert node["environment"]["MOONSHINE_NAME"] == name
        assert seconds(node["stop_grace_period"]) > seconds(drain)
        for secret in node["secrets"]:
            assert secret in whole["secrets"]
            assert f"/run/secrets/{secret}" in node["environment"].values()
        # It may write where the image says that it does, and nowhere else.
        user = dict(instructions())["USER"].partition(":")[0]
        assert node["read_only"]
        for key in ("MOONSHINE_RUN_DIR", "MOONSHINE_STATE_DIR"):
            assert any(entry.startswith(f"{variables()[key]}:uid={user},")
                       for entry in node["tmpfs"]), key
    addresses = [node["networks"]["inner"]["ipv4_address"]
                 for node in nodes().values()]
    assert len(set(addresses)) == 3
    for service in whole["services"].values():
        for other in service.get("depends_on", {}):
            assert other in whole["services"]
            assert "healthcheck" in whole["services"][other] or \
                other in nodes()
    ignored = (DEPLOY / ".gitignore").read_text().split()
    assert "/" + whole["secrets"]["moonshine_secret"]["file"][2:] in ignored


def test_variables_are_keys():
    """One that is misspelt would go unnoticed."""
    text = (ROOT / "core/base/config.h").read_text()
    keys = {"MOONSHINE_" + key.upper().replace(".", "_") for key in
            re.findall(r'X\(\w+,\s+\w+,\s+"([a-z_.]+)"', text)}
    assert len(keys) > 50
    for env in [variables(), *(n["environment"] for n in nodes().values())]:
        for name in env:
            assert name.removesuffix("_FILE") in keys, name


def test_nginx_conf_is_what_we_print():
    """By the command that the compose file names."""
    text = (DEPLOY / "compose.yaml").read_text()
    options = re.search(r"moonshine (nginx .*?) > nginx\.conf", text)[1]
    port = variables()["MOONSHINE_LISTEN"].lstrip(":")
    assert ",".join(f"{name}:{port}" for name in sorted(nodes())) in options
    done = command(*options.split())
    assert done.returncode == 0, done.stderr
    assert (DEPLOY / "nginx.conf").read_text() == done.stdout
    service = compose()["services"]["nginx"]
    inside = service["ports"][0].rpartition(":")[2]
    assert f"listen {inside};" in done.stdout
    for log in re.findall(r"access_log (\S+)", done.stdout):
        assert log in service["command"][2]
    address = service["networks"]["inner"]["ipv4_address"]
    for node in nodes().values():
        assert node["environment"]["MOONSHINE_TRUSTED_PROXIES"] == address


def test_all_of_it_together(start, tmp_path):
    """Three nodes with the environment of the compose file, a real Redis and
    a real nginx with the shipped configuration; one node is stopped."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef\n")
    config = (DEPLOY / "nginx.conf").read_text()
    started = {}
    with RedisServer() as redis:
        for name, service in nodes().items():
            env = dict(service["environment"])
            port = env["MOONSHINE_LISTEN"].lstrip(":")
            listen = f"127.0.0.1:{free_port()}"
            env["MOONSHINE_LISTEN"] = listen
            env["MOONSHINE_REDIS_URL"] = env["MOONSHINE_REDIS_URL"].replace(
                "redis:6379", f"127.0.0.1:{redis.port}")
            for key, value in env.items():
                if key.endswith("_FILE"):
                    assert value.startswith("/run/secrets/")
                    env[key] = str(secret)
            env["MOONSHINE_TRUSTED_PROXIES"] = "127.0.0.1"
            config = config.replace(f"server {name}:{port} ",
                                    f"server {listen} ")
            started[name] = start("""
                app:get("/", function(c)
                    local session = c:session()
                    session:set("n", (session:get("n") or 0) + 1)
                    return { n = session:get("n"), node = moonshine.node(),
                             ip = c:ip() }
                end)""", env=env, configured=True, listen=listen, name=name)
        front = free_port()
        config = re.sub(r"listen \d+;", f"listen 127.0.0.1:{front};", config)
        config = re.sub(r"access_log .*;", "access_log off;", config)
        home = tmp_path / "nginx"
        home.mkdir()
        paths = "".join(f"{kind}_temp_path {home}/{kind};\n" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (home / "conf").write_text(
            f"daemon off; pid {home}/pid; error_log {home}/error;\n"
            f"events {{}}\nhttp {{ access_log off;\n{paths}{config}}}\n")
        nginx = subprocess.Popen(
            ["nginx", "-p", str(home), "-c", str(home / "conf")],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            walk(("127.0.0.1", front), started)
        finally:
            nginx.send_signal(signal.SIGQUIT)
            nginx.wait(20)
        for node in started.values():
            if node.process.poll() is None:
                node.stop()


def walk(address, started):
    """One session over all nodes, before and while one of them stops."""
    def reachable():
        try:
            with Client(address) as client:
                return client.get("/-/ready").status == 404
        except OSError:
            return False
    eventually(reachable, "nginx serves")
    with Client(address) as client:
        answer = client.get("/")
        assert answer.json()["ip"] == "127.0.0.1"
        cookie = answer.header("Set-Cookie").partition(";")[0]
        seen, count = {answer.json()["node"]}, 1
        while len(seen) < 3:
            answer = client.get("/", {"Cookie": cookie})
            count += 1
            assert answer.json()["n"] == count
            seen.add(answer.json()["node"])
        assert seen == set(started)
        started["a"].signal(signal.SIGTERM)
        for _ in range(50):
            answer = client.get("/", {"Cookie": cookie})
            count += 1
            assert answer.status == 200 and answer.json()["n"] == count
        assert started["a"].process.wait(30) == 0
