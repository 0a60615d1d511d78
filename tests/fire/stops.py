"""Stop and binary upgrade with requests of two seconds in flight; stop with
clients that are stuck."""

import pathlib
import signal
import tempfile
import time

from fire import site
from fire.ledger import Clients
from fire.report import Row
from support.admin import Admin
from support.client import Client, Closed, build
from support.node import eventually
from support.upgrade import adopting, follow, program, settled

SLEEPERS = 64
DRAIN_SECONDS = 3


class Sleepers:
    """Requests that take a while, each on a connection of its own."""

    def __init__(self, node, ms):
        self.ms = ms
        self.clients = []
        data = build("GET", f"/sleep?ms={ms}")
        for _ in range(SLEEPERS):
            client = Client(node.address, 60)
            self.clients.append(client)
            client.send(data)
        eventually(self.all_run(Admin(node)), "all are in flight")

    def all_run(self, admin):
        def check():
            return sum(r["route"] == "/sleep" for r in admin.requests()) >= \
                SLEEPERS
        return check

    def finished(self):
        """How many got their whole answer."""
        done = 0
        for client in self.clients:
            with client:
                try:
                    answer = client.read_response()
                except (OSError, Closed):
                    continue
                done += answer.status == 200 and \
                    answer.text == f"slept {self.ms} ms\n"
        return done


def stop(ms):
    with site.demo() as node:
        sleepers = Sleepers(node, ms)
        began = time.monotonic()
        node.signal(signal.SIGTERM)
        done = sleepers.finished()
        code = node.process.wait(60)
        took = time.monotonic() - began
    return Row(f"stop with {SLEEPERS} requests of {ms / 1000:g} s in flight",
               f"{done} of {SLEEPERS} finish, exit {code} after {took:.1f} s",
               f"{SLEEPERS} of {SLEEPERS}, exit 0",
               done == SLEEPERS and code == 0)


def upgrades(count, ms):
    done = 0
    with tempfile.TemporaryDirectory(prefix="moon-") as home, \
            adopting(), site.demo(
                binary=str(program(pathlib.Path(home))),
                settings={"drain_idle": "2s"}) as node:
        with Clients(node.address) as clients:
            clients.add(site.HEALTHY, 16)
            clients.progress(100)
            for _ in range(count):
                sleepers = Sleepers(node, ms)
                node.signal(signal.SIGUSR2)
                done += sleepers.finished()
                follow(node)
                settled(node)
                clients.progress(100)
        ledger = clients.ledger
        status = Admin(node).status()
    whole = count * SLEEPERS
    return [
        Row(f"{count} binary upgrades: requests of {ms / 1000:g} s in flight",
            f"{done} of {whole} finish", "all", done == whole),
        Row(f"{count} binary upgrades: lost of others",
            f"{ledger.failed()} of {ledger.count['ok']}", "0",
            ledger.failed() == 0 and status["upgrades"] == count,
            note=f"{ledger.text()} {ledger.wrong[:5]} {ledger.losses[:5]}"),
    ]


def fill(client):
    """Sends until the server reads no more, since nobody takes its answers."""
    client.sock.settimeout(1)
    try:
        while True:
            client.send(build("POST", "/echo", body=b"x" * 4000000))
    except TimeoutError:
        pass


def stuck():
    """Clients that take no answer, send no rest, wait for long, stream."""
    with site.demo(settings={"drain_timeout": f"{DRAIN_SECONDS}s"}) as node:
        deaf, half, slow, stream = (node.connect() for _ in range(4))
        fill(deaf)
        half.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        slow.send(build("GET", "/sleep?ms=10000"))
        stream.send(build("GET", "/stream?count=1000&ms=1000"))
        eventually(lambda: len(Admin(node).requests()) >= 4, "all run")
        began = time.monotonic()
        node.signal(signal.SIGTERM)
        code = node.process.wait(60)
        took = time.monotonic() - began
    return [Row("stop with stuck clients: exit code", f"{code}", "0",
                code == 0),
            Row("stop with stuck clients: it took", f"{took:.1f} s",
                f"<= drain_timeout ({DRAIN_SECONDS} s) + 1 s",
                took <= DRAIN_SECONDS + 1, exact=False)]


def run(options):
    ms = options.pick(2000, 500)
    return [stop(ms), *upgrades(options.pick(10, 2), ms), *stuck()]
