"""User-space instructions per request of a server, by callgrind.

A server runs twice under callgrind, with N and with 3 N requests from h2load,
and the difference is divided: start-up and compilation of the handler cancel
out, and the figure is the same on a busy machine.
"""

import contextlib
import pathlib
import re
import signal
import socket
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from support.node import BINARY, Node, eventually, free_port  # noqa: E402

# Everything is some fifty times slower under callgrind; nothing may be taken
# for a hang.
SETTINGS = {"log.access": "off", "cpu_limit": "60s", "hang_timeout": "none",
            "load_timeout": "300s", "timeout": "120s", "header_timeout": "60s",
            "drain_idle": "0", "shed_lag": "none"}
START_SECONDS = 300


# A copy by `rep movsb` would count as an instruction a byte, which it is not;
# so libc is told to copy by vectors, whatever the length.
COPY_BY_VECTORS = {"GLIBC_TUNABLES": "glibc.cpu.x86_rep_movsb_threshold="
                                     "0x40000000"}


def valgrind(folder):
    return ["env", *(f"{k}={v}" for k, v in COPY_BY_VECTORS.items()),
            "valgrind", "-q", "--tool=callgrind",
            f"--callgrind-out-file={folder}/out.%p"]


@contextlib.contextmanager
def moonshine(folder, app):
    """Serves an application with one worker: its URL and the worker's pid."""
    grind = folder / "grind"
    grind.write_text(
        f"#!/bin/sh\nexec {' '.join(valgrind(folder))} {BINARY} \"$@\"\n")
    grind.chmod(0o755)
    node = Node(app, settings=SETTINGS, binary=str(grind), wait=False)
    try:
        node.wait_ready(START_SECONDS)
        worker, = node.children()
        yield f"http://{node.listen}", worker
        node.stop(120)
    except BaseException:
        node.kill()
        raise


@contextlib.contextmanager
def nginx(folder, config, env):
    """Serves with one nginx process: its URL and pid. PORT and HOME in the
    text of the configuration stand for themselves."""
    port = free_port()
    path = folder / "nginx.conf"
    path.write_text(config.replace("PORT", str(port))
                    .replace("HOME", str(folder)))
    log = folder / "error.log"
    process = subprocess.Popen(
        [*valgrind(folder), "nginx", "-p", str(folder), "-c", str(path)],
        env=env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens():
        if process.poll() is not None:
            sys.exit("nginx does not start:\n" + log.read_text())
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        except OSError:
            return False

    try:
        eventually(listens, "nginx listens", START_SECONDS)
        yield f"http://127.0.0.1:{port}", process.pid
        process.send_signal(signal.SIGQUIT)
        process.wait(120)
    finally:
        process.kill()


def load(url, requests, route, connections=1, pipeline=1, status=200,
         others=0, more=()):
    """Sends requests with h2load; ends the program if too many fail."""
    out = subprocess.run(
        ["h2load", "--h1", "-n", str(requests), "-c", str(connections),
         "-m", str(pipeline), *more, url + route],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        check=True).stdout
    got = re.search(rf"(\d+) {status // 100}xx", out)
    if not got or int(got[1]) < requests - others:
        sys.exit(f"not all requests succeeded:\n{out}")


def count(serve, send, requests, folder):
    """Instructions of a server's process over its whole life."""
    folder.mkdir()
    with serve(folder) as (url, pid):
        send(url, requests)
    report = folder / f"out.{pid}"
    eventually(report.exists, f"{report}")
    return int(re.search(r"^(?:totals|summary): (\d+)", report.read_text(),
                         re.MULTILINE)[1])


def per_request(serve, send, requests, folder):
    """serve(folder) is one of the above; send(url, requests) sends them.
    callgrind's files go to folder-N and folder-3N."""
    short, long = (
        count(serve, send, n, folder.with_name(f"{folder.name}-{n}"))
        for n in (requests, 3 * requests))
    return (long - short) / (2 * requests)
