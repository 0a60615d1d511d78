"""Starts and stops a real node, in directories of its own.

    with Node(app_dir) as node:
        node.get("/").status

Leaving the block sends TERM and asserts what every test wants to know: exit
code 0, no process left over, no sanitizer report in the log.
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from support.client import DEADLINE, SLOW, Client

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.path.abspath(os.environ.get(  # commands run in other folders
    "MOONSHINE_BIN", ROOT / "build/release/core/moonshine"))
SANITIZED = re.compile(
    r"ERROR: (Address|Leak|Thread)Sanitizer|runtime error:|"
    r"WARNING: ThreadSanitizer|LeakSanitizer has encountered")
# Variables of the caller that reach the processes under test.
PASSED_ON = ("MOONSHINE_LUA", "MOONSHINE_JIT", "MOONSHINE_GC_STRESS",
             "MOONSHINE_COVERAGE", "MOONSHINE_VALGRIND", "VALGRIND_OPTS")
PRELUDE = 'local moonshine = require "moonshine"; local app = moonshine.app();'


def eventually(check, what="condition", seconds=20.0):
    """Polls until check() is true and returns its value."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def write_app(directory, source):
    """source: the text of app.lua, or {path: text} for more files.

    Text of app.lua that does not require moonshine gets the usual first and
    last lines around it (on the first line, so that line numbers hold).
    """
    files = {"app.lua": source} if isinstance(source, str) else dict(source)
    main = files.get("app.lua")
    if main is not None and 'require "moonshine"' not in main:
        files["app.lua"] = PRELUDE + " " + main + "\nreturn app\n"
    directory = pathlib.Path(directory)
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and renamed, as an editor or a deploy does: a reload
        # never meets half a file.
        aside = path.with_name(path.name + ".new~")
        aside.write_bytes(text if isinstance(text, bytes) else text.encode())
        aside.replace(path)
    return directory


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(extra=None):
    """What every command of these tests runs with."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith("MOONSHINE_") or k in PASSED_ON}
    for name in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY", "NOTIFY_SOCKET"):
        env.pop(name, None)
    if os.getuid() == 0:
        env["MOONSHINE_USER"] = "root"
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:exitcode=99")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    env.update(extra or {})
    return env


def command(*args, env=None, seconds=60, cwd=None):
    """Runs `moonshine ARGS` to its end; stdin is empty."""
    return subprocess.run(
        [BINARY, *map(str, args)], env=environment(env), cwd=cwd,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, timeout=seconds * SLOW, text=True, check=False)


def processes():
    """(pid, parent, session, state) of everything that runs here."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path("/proc", entry, "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            state, parent, _, session = stat.rpartition(")")[2].split()[:4]
            yield int(entry), int(parent), int(session), state


class Node:
    running = []

    def __init__(self, app, *args, workers=1, listen=None, settings=None,
                 env=None, run_dir=None, state_dir=None, name=None,
                 wait=True, binary=BINARY, user=None, configured=False,
                 pass_fds=()):
        """configured: `listen` and workers are not given as options."""
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="moonshine-test-"))
        self.app = app if isinstance(app, os.PathLike) else \
            write_app(self.home / "app", app)
        self.run_dir = pathlib.Path(run_dir or self.home / "run")
        self.state_dir = pathlib.Path(state_dir or self.home / "state")
        self.log_path = self.home / "log"
        self.clients = []
        self.expect_exit = 0
        self.ending = False
        self.name = name or "test"
        if listen is None:
            listen = f"127.0.0.1:{free_port()}"
        self.listen = listen
        if listen.startswith("unix:"):
            self.address = listen[5:]
        else:
            host, _, port = listen.rpartition(":")
            self.address = (host.strip("[]") or "127.0.0.1", int(port))
        line = [binary, "run", str(self.app), "--name", self.name,
                "--run-dir", str(self.run_dir),
                "--state-dir", str(self.state_dir)]
        if not configured:
            line += ["--listen", listen, "--workers", str(workers)]
        for key, value in (settings or {}).items():
            line += ["--set", f"{key}={value}"]
        line += [str(a) for a in args]
        self.line = line
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                line, env=environment(env), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, user=user,
                pass_fds=pass_fds)
        self.pid = self.process.pid
        self.leader = self.pid  # of the session, whoever the master is
        self.process.terminate = lambda: self.signal(signal.SIGTERM)
        Node.running.append(self)
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                self.kill()
                raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:
            self.kill()

    # Requests

    def connect(self, timeout=DEADLINE):
        client = Client(self.address, timeout)
        self.clients.append(client)
        return client

    def request(self, method, target, headers=None, body=None, **options):
        """One request on a connection of its own."""
        with Client(self.address) as client:
            return client.request(method, target, headers, body, **options)

    def get(self, target, headers=None):
        return self.request("GET", target, headers)

    def raw(self, data):
        """Sends bytes, returns all that comes back until the close."""
        with Client(self.address) as client:
            client.send(data)
            client.half_close()
            return client.read_rest()

    # State

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_log(self, pattern, seconds=20.0):
        found = eventually(lambda: re.search(pattern, self.log()),
                           f"/{pattern}/ in the log:\n{self.log()[-2000:]}",
                           seconds)
        return found

    def is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the node ended with "
                                 f"{self.process.returncode}:\n{self.log()}")
        try:
            return self.get("/-/ready").status == 200
        except OSError:
            return False

    def wait_ready(self, seconds=30.0):
        try:
            eventually(self.is_ready, "the node is ready", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[-4000:]}") from None

    def children(self):
        return [pid for pid, parent, _, state in processes()
                if parent == self.pid and state != "Z"]

    def sanitized(self):
        maps = pathlib.Path(f"/proc/{self.pid}/maps").read_text()
        return "libasan" in maps or "libtsan" in maps

    def command(self, verb, *args, seconds=60):
        """`moonshine VERB` on this node: reload, status, rollback, stop."""
        return command(verb, "--name", self.name,
                       "--run-dir", str(self.run_dir), *args,
                       seconds=seconds)

    def rewrite(self, source):
        """Replaces files of the application, without a reload."""
        write_app(self.app, source)

    def signal(self, number):
        os.kill(self.pid, number)
        if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self.ending = True  # a second one would cut the drain short

    # End

    def session(self):
        return [pid for pid, _, session, state in processes()
                if session == self.leader and pid != self.pid and
                state != "Z"]

    def stop(self, seconds=40.0):
        """TERM, then every assertion that holds for any test."""
        for client in self.clients:
            client.close()
        if self.process.poll() is None:
            zombies = lambda: [pid for pid, parent, _, state in processes()
                               if parent == self.pid and state == "Z"]
            eventually(lambda: not zombies(), "no zombie", 5)
            if not self.ending:
                self.signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            log = self.log()
            self.kill()
            raise AssertionError(f"TERM did not end it:\n{log[-4000:]}") \
                from None
        try:
            log = self.log()
            assert not SANITIZED.search(log), log[-20000:]
            assert code == self.expect_exit, f"exit {code}:\n{log[-4000:]}"
            eventually(lambda: not self.session(), "no process left", 5)
        finally:
            self.kill()

    def kill(self):
        """Ends whatever is left, by pid, and removes the directories."""
        for client in self.clients:
            client.close()
        for pid in [self.pid, *self.session()]:
            try:
                if pid != self.pid or self.process.poll() is None:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        if self in Node.running:
            Node.running.remove(self)
        shutil.rmtree(self.home, ignore_errors=True)
