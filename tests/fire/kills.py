"""kill -9 of a random worker every 200 ms, under 32 keep-alive connections."""

import os
import random
import re
import signal
import time

from fire import site
from fire.ledger import Clients
from fire.report import Row, percentile
from support.node import eventually, processes

CLIENTS = 32
PERIOD = 0.2


def children(pid):
    return [child for child, parent, _, state in processes()
            if parent == pid and state != "Z"]


def storm(parent, address, routes, seconds, seed):
    """Until the time is over; the ledger, and (when, pid) of each kill."""
    chance = random.Random(seed)
    killed = []
    with Clients(address) as clients:
        clients.add(routes, CLIENTS)
        clients.progress(500)
        ends = due = time.monotonic()
        ends += seconds
        while due < ends:
            due += PERIOD
            time.sleep(max(0, due - time.monotonic()))
            alive = children(parent)
            if alive:
                victim = chance.choice(alive)
                killed.append((time.monotonic(), victim))
                os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(children(parent)) == 2, "both workers")
        clients.progress(500)
    return clients.ledger, killed


def innocent(ledger, killed):
    """Requests that were lost though nobody killed their worker."""
    died = {str(pid): when for when, pid in killed}

    def explained(loss):
        if loss.kind != "reset":
            return False
        if loss.worker is not None:
            return died.get(loss.worker, loss.at) < loss.at
        # It had told nobody yet who it is: one that died meanwhile.
        return any(loss.opened - PERIOD <= when <= loss.at
                   for when, _ in killed)
    return [loss for loss in ledger.losses if not explained(loss)]


def respawns(node):
    """(from the death of a worker to the next one, loading the application)
    in ms, of each."""
    return [(float(gap), float(load)) for gap, load in re.findall(
        r"serves, ([\d.]+) ms after the last one died; loading the "
        r"application took ([\d.]+)", node.log())]


def spread(values):
    return (f"median {percentile(values, 0.5):.0f}, p99 "
            f"{percentile(values, 0.99):.0f}, most {max(values):.0f} ms")


def run(options):
    seconds = options.length(60, 4)
    theirs = None
    with site.demo(site.with_worker) as node:
        ledger, killed = storm(node.pid, node.address, site.HEALTHY, seconds,
                               options.seed)
        back = respawns(node)
    nginx = site.anchor()
    if nginx:
        with nginx:
            theirs = storm(nginx.process.pid, nginx.address, site.HELLO,
                           min(seconds, 20), options.seed)
    beyond = [gap - load for gap, load in back]
    lost = innocent(ledger, killed)
    anchor = "-"
    if theirs:
        count = theirs[0].count
        anchor = (f"nginx {count['reset'] / len(theirs[1]):.1f} a kill, "
                  f"{count['refused']} refused")
    return [
        Row("kill -9: lost beside those in flight on that worker",
            f"{len(lost)} of {ledger.count['ok']}", "0", not lost, anchor,
            note=f"{lost[:5]}"),
        Row("kill -9: in flight on it, a kill",
            f"{ledger.count['reset'] / len(killed):.1f} "
            f"({len(killed)} kills)", f"<= {CLIENTS}",
            ledger.count["reset"] <= len(killed) * CLIENTS, anchor),
        Row("kill -9: refused, without an answer, wrong",
            f"{ledger.count['refused']}, {ledger.count['lost']}, "
            f"{ledger.count['wrong']}", "0",
            ledger.count["refused"] + ledger.count["lost"] +
            ledger.count["wrong"] == 0, note=f"{ledger.wrong[:5]}"),
        Row("kill -9: new worker, beyond loading", spread(beyond),
            "p99 <= 50 ms", percentile(beyond, 0.99) <= 50,
            "loading: " + spread([load for _, load in back]), exact=False),
    ]
