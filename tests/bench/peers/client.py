"""Runs bench_load (load.c) on its core, and what it says."""

import json
import os
import pathlib
import subprocess
import tempfile

from peers import TOOLS

LOAD = TOOLS / "bench_load"


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
        out, err = process.communicate(timeout=600)
        if process.returncode != 0:
            raise AssertionError(f"the client failed on {server.peer.title}:"
                                 f"\n{err}\n{server.log()}")
        return {**json.loads(out), "said": err.strip()}

    def run(self, server, sent, **options):
        return self.finish(self.start(server, sent, **options), server)
