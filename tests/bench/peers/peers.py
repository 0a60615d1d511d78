"""The peers: how each is had, configured and started.

A peer is a class here and its configuration in a file beside. Each runs as its
documentation recommends for production: keep-alive, one worker, release mode,
no access log.
"""

import os
import pathlib
import shutil
import signal
import subprocess

import setup
from setup import HERE, ROOT, Missing
from support.node import BINARY, environment

TOOLS = pathlib.Path(BINARY).parents[1] / "tests"


def first_line(*words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    return (done.stdout.splitlines() or ["?"])[0].strip()


class Peer:
    name = title = ""
    stop_signal = signal.SIGTERM
    reload_signal = None  # None: it is restarted, as its users do
    callgrind = True      # whether counting its instructions means anything
    sessions = True

    def prepare(self):
        """Gets and builds it; raises Missing."""

    def version(self):
        return ""

    def configure(self, site):
        """Writes its files, for this version of the code."""

    def line(self, site):
        raise NotImplementedError

    def env(self, site):
        return {}

    def fill(self, site, name, to):
        """Writes a file of this folder with what it has in capitals put in."""
        text = (HERE / name).read_text()
        for word, value in (("UNPACKED", setup.UNPACKED), ("HOME", site.home),
                            ("PORT", site.port), ("STATIC", site.static),
                            ("REDIS", site.redis), ("VERSION", site.version),
                            ("TIMEOUT", 60000 if site.slow else 250),
                            ("USER", "user root;" if os.getuid() == 0
                             else "")):
            text = text.replace(word, str(value))
        path = site.home / to
        aside = path.with_name(path.name + ".new~")
        aside.write_text(text)
        aside.replace(path)


class Moonshine(Peer):
    name, title = "moonshine", "Moonshine"
    reload_signal = signal.SIGUSR1
    # Under callgrind everything is some fifty times slower.
    SLOW = {"cpu_limit": "60s", "hang_timeout": "none", "load_timeout": "300s",
            "timeout": "120s", "header_timeout": "60s", "drain_idle": "0",
            "shed_lag": "none"}

    def prepare(self):
        if not os.path.exists(BINARY):
            raise Missing(f"{BINARY} is not built")

    def version(self):
        commit = first_line("git", "-C", ROOT, "rev-parse", "--short", "HEAD")
        return f"{first_line(BINARY, 'version')}, commit {commit}"

    def configure(self, site):
        self.fill(site, "moonshine.lua", "app/app.lua")

    def line(self, site):
        settings = {"log.access": "off"}
        if site.redis:
            settings["session.url"] = f"redis://127.0.0.1:{site.redis}"
        if site.slow:
            settings.update(self.SLOW)
        return [BINARY, "run", site.home / "app", "--workers", 1,
                "--listen", f"127.0.0.1:{site.port}", "--name", "bench",
                "--run-dir", site.home / "run",
                "--state-dir", site.home / "state",
                *(word for key, value in settings.items()
                  for word in ("--set", f"{key}={value}"))]

    def env(self, site):
        return environment()


class Nginx(Peer):
    name, title = "nginx", "nginx"
    stop_signal, reload_signal = signal.SIGQUIT, signal.SIGHUP
    sessions = False

    def prepare(self):
        if not shutil.which("nginx"):
            raise Missing("nginx is not installed (nginx-light)")

    def version(self):
        return first_line("nginx", "-v").rpartition("/")[2]

    def configure(self, site):
        self.fill(site, "nginx_http.conf", "http.conf")
        self.fill(site, f"{self.name}.conf", "nginx.conf")

    def line(self, site):
        return ["nginx", "-p", site.home, "-c", site.home / "nginx.conf",
                "-e", site.home / "error.log"]


class NginxLua(Nginx):
    name, title = "nginx_lua", "nginx + Lua"
    sessions = True

    def prepare(self):
        super().prepare()
        setup.unpack()

    def version(self):
        return ", ".join([super().version()] + [
            f"{package} {setup.unpacked_version(package)}" for package in
            ("libnginx-mod-http-lua", "lua-resty-core", "libluajit2-5.1-2",
             "lua-cjson")])

    def configure(self, site):
        super().configure(site)
        self.fill(site, "nginx_lua.lua", "bench.lua")
        self.fill(site, "nginx_sessions.lua", "bench_sessions.lua")

    def env(self, site):
        return {"LD_LIBRARY_PATH": str(setup.LIBRARIES)}


class Gin(Peer):
    name, title = "gin", "Gin"
    callgrind = False

    def prepare(self):
        setup.gin()

    def version(self):
        package = setup.package_version("golang-github-gin-gonic-gin-dev")
        return f"{package}, {first_line('go', 'version')}"

    def line(self, site):
        return [setup.GIN, site.port, site.static, site.redis, site.version]

    def env(self, site):
        return {"GOMAXPROCS": "1", "GIN_MODE": "release"}


class Fastify(Peer):
    name, title = "fastify", "Fastify"
    callgrind = False

    def prepare(self):
        setup.npm_modules()
        shutil.copy(HERE / "fastify.js", setup.NPM)

    def version(self):
        fastify = first_line("node", "-p", "require("
                             f"'{setup.NPM}/node_modules/fastify/package.json'"
                             ").version")
        return f"{fastify}, node {first_line('node', '--version')}"

    def line(self, site):
        return ["node", setup.NPM / "fastify.js", site.port, site.static,
                site.redis, site.version]

    def env(self, site):
        return {"NODE_ENV": "production"}


class Floor(Peer):
    name, title = "floor", "floor (C)"
    sessions = False

    def prepare(self):
        if not (TOOLS / "bench_floor").exists():
            raise Missing("bench_floor is not built")

    def version(self):
        return "tests/bench/peers/floor.c"

    def line(self, site):
        return [TOOLS / "bench_floor", site.port]


PEERS = [Moonshine(), NginxLua(), Gin(), Fastify(), Nginx(), Floor()]
