"""A server under measurement: started on one core, with all its processes.

    with Server(peer, home, redis_port=0) as server:
        server.port, server.pids(), server.pss_bytes()
"""

import contextlib
import dataclasses
import http.client
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from support.node import eventually, processes
from support.servers import free_ports

STATIC = {"4k.txt": 4096, "1m.txt": 1 << 20}


@dataclasses.dataclass
class Site:
    """What a peer is started with."""
    home: pathlib.Path     # of its own: configuration, logs
    static: pathlib.Path   # the files that it serves below /static/
    port: int
    redis: int = 0         # the port, or 0
    version: int = 1       # what /version answers
    slow: bool = False     # it runs under callgrind: nothing may time out


def static_bytes(size):
    """Of a file: not all the same, so that a mix-up shows."""
    line = bytes(range(32, 96)) * (size // 64)
    return line[:size]


class Server:
    def __init__(self, peer, redis=0, core=0, prefix=(), slow=False,
                 wait=True, seconds=30):
        self.peer = peer
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="moonbench-"))
        self.home.chmod(0o755)
        static = self.home / "app/static"
        static.mkdir(parents=True)
        for name, size in STATIC.items():
            (static / name).write_bytes(static_bytes(size))
        self.site = Site(self.home, static, free_ports(1)[0], redis,
                         slow=slow)
        self.core, self.prefix = core, [str(word) for word in prefix]
        self.process = None
        try:
            self.launch()
            if wait:
                eventually(self.answers, f"{peer.title} answers", seconds)
        except BaseException:
            self.stop()
            raise

    @property
    def port(self):
        return self.site.port

    def launch(self):
        """Starts it, without waiting."""
        self.peer.configure(self.site)
        line = ["taskset", "-c", str(self.core)] if self.core is not None \
            else []
        with open(self.home / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*line, *self.prefix, *map(str, self.peer.line(self.site))],
                env={**os.environ, **self.peer.env(self.site)}, cwd=self.home,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)

    def log(self):
        return (self.home / "log").read_text(errors="replace")[-2000:]

    def ask(self, path, headers=None, method="GET", body=None):
        """(status, headers, body) over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port,
                                                timeout=20)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.peer.title} ended with "
                                 f"{self.process.returncode}:\n{self.log()}")
        try:
            return self.ask("/text")[0] == 200
        except OSError:
            return False

    # Its processes

    def pids(self):
        leader = self.process.pid
        return [pid for pid, _, session, state in processes()
                if session == leader and state != "Z"]

    def pss_bytes(self):
        """Memory of all its processes; what they share counts once."""
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                for text in file:
                    if text.startswith("Pss:"):
                        total += int(text.split()[1]) * 1024
        return total

    # New code

    def renew(self):
        """Brings version 2 live as the peer's users do."""
        self.site.version += 1
        if self.peer.reload_signal:
            self.peer.configure(self.site)
            os.kill(self.process.pid, self.peer.reload_signal)
            return
        self.process.send_signal(self.peer.stop_signal)
        self.process.wait(20)
        self.launch()

    # End

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.peer.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(120 if self.site.slow else 5)
        if self.process is not None:
            for pid in {self.process.pid, *self.pids()}:
                with contextlib.suppress(ProcessLookupError):
                    if pid != self.process.pid or self.process.poll() is None:
                        os.kill(pid, signal.SIGKILL)
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
