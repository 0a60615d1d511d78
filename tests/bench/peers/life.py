"""What is not a request: start-up, memory, idle connections, new code."""

import itertools
import signal
import time

import rows
from server import Server

TEXT = next(row for row in rows.ROWS if row.name == "text")
VERSION = rows.Row("version", "/version", "/version", None)


def start_ms(peer, core):
    """From its configuration to the first right answer."""
    began = time.monotonic()
    with Server(peer, core=core, wait=False) as server:
        while not server.answers():
            time.sleep(0.0005)
        return (time.monotonic() - began) * 1000


def memory_bytes(peer, client, requests, core):
    """PSS of all its processes after some requests."""
    with Server(peer, core=core) as server:
        client.run(server, [TEXT.request()], connections=32,
                   requests=requests)
        return server.pss_bytes()


def idle_bytes(peer, client, plan, core):
    """Memory that each idle keep-alive connection adds; the kernel's is not
    counted. Some load before and meanwhile lets heaps and pools be as they are
    in use."""
    connections = plan.idle
    with Server(peer, core=core) as server:
        sizes = []
        for count in (100, connections):
            client.run(server, [TEXT.request()], connections=100,
                       requests=plan.requests)
            with client.idle(server, [TEXT.request()], count):
                sizes.append(server.pss_bytes())
        return (sizes[1] - sizes[0]) / (connections - 100)


def reload(peer, client, plan, core, change=True):
    """New code under steady load: when the first new answer came and the last
    old one, in ms after the order; p99 of all; what failed."""
    with Server(peer, core=core) as server:
        seconds = plan.reload_seconds
        options = {"bodies": [b"1", b"2"], "connections": 32,
                   "rate": plan.reload_rate, "warmup": 0.3}
        client.run(server, [VERSION.request()], seconds=0.5, **options)
        load = client.start(server, [VERSION.request()], seconds=seconds,
                            **options)
        try:
            time.sleep(0.3 + seconds / 3)
            ordered = time.monotonic()
            if change:
                server.renew()
            got = client.finish(load, server)
        finally:
            load.kill()
        old, new = got["bodies"]
        out = {key: got[key] for key in ("answers", "wrong", "failed",
                                         "refused", "p99_us", "max_us")}
        if change and not new["count"]:
            raise AssertionError(f"{peer.title}: no new code\n{server.log()}")
        if change:
            out["new_ms"] = (new["first"] - ordered) * 1000
            out["old_ms"] = (old["last"] - ordered) * 1000
        return out


def how_renewed(peer):
    if not peer.reload_signal:
        return "restart"
    return signal.Signals(peer.reload_signal).name


class Life:
    """All of it, for all peers in turn: {figure: {peer: [values]}}."""

    def __init__(self, peers, client, plan, core):
        self.peers, self.client = peers, client
        self.plan, self.core = plan, core

    def turns(self, rounds, measure):
        out = {}
        for _, peer in itertools.product(range(rounds), self.peers):
            value = measure(peer)
            if value is not None:
                out.setdefault(peer.name, []).append(value)
        return out

    def start(self):
        return self.turns(self.plan.starts,
                          lambda peer: start_ms(peer, self.core))

    def memory(self):
        return self.turns(1, lambda peer: memory_bytes(
            peer, self.client, self.plan.requests, self.core))

    def idle(self):
        return self.turns(1, lambda peer: idle_bytes(
            peer, self.client, self.plan, self.core))

    def reload(self):
        def renewed(peer):
            if peer.name == "floor":
                return None
            without, during = (reload(peer, self.client, self.plan, self.core,
                                      change) for change in (False, True))
            return {"how": how_renewed(peer), "without": without,
                    "with": during}

        return self.turns(self.plan.reloads, renewed)


FIGURES = {
    "start": "start-up to the first answer",
    "memory": "memory of all processes (PSS)",
    "idle": "memory of an idle connection",
    "reload": "new code under load",
}
