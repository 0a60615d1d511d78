"""Runs bench_load (load.c) on its core, and what it says."""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import threading

from peers import TOOLS

LOAD = TOOLS / "bench_load"
SECONDS = 300  # that no run takes


class Client:
    """Writes what is sent and expected into a folder, and asks servers."""

    def __init__(self, folder, core=1):
        self.folder = pathlib.Path(folder)
        self.line = [*(["taskset", "-c", str(core)] if core is not None
                       else []), str(LOAD)]

    def file(self, data):
        handle, path = tempfile.mkstemp(dir=self.folder)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        return path

    def words(self, server, sent, bodies=(), status=200, **options):
        line = [*self.line, "--port", str(server.port), "--status",
                str(status), "--request", self.file(b"\0".join(sent))]
        for body in bodies:
            line += ["--body", self.file(body)]
        for name, value in options.items():
            line += [f"--{name}"] if value is True else \
                [f"--{name}", str(value)]
        return line

    def start(self, server, sent, **options):
        """The process; its stdout is a line of JSON (see load.h)."""
        return subprocess.Popen(
            self.words(server, sent, **options), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, process, server):
        try:
            out, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
        if process.returncode != 0:
            raise AssertionError(f"the client failed on {server.peer.title}:"
                                 f"\n{err}\n{server.log()}")
        return {**json.loads(out), "said": err.strip()}

    def run(self, server, sent, **options):
        return self.finish(self.start(server, sent, **options), server)

    @contextlib.contextmanager
    def idle(self, server, sent, connections):
        """So many connections, each with an answer, that do nothing now."""
        process = self.start(server, sent, connections=connections, idle=True)
        limit = threading.Timer(SECONDS, process.kill)
        limit.start()
        try:
            line = process.stdout.readline()
            if '"wrong":0' not in line:
                raise AssertionError(
                    f"{server.peer.title} with {connections} idle "
                    f"connections: {line}{process.communicate()[1]}")
            yield
            process.communicate()
        finally:
            limit.cancel()
            process.kill()
            process.wait()
