"""SIGUSR1 every 100 ms, 100 times, with code that does not load among it; under
keep-alive connections."""

import random
import signal
import time

from fire import site
from fire.ledger import Clients, expect, request
from fire.report import Row
from support.admin import Admin
from support.node import eventually, write_app

CLIENTS = 32
PERIOD = 0.1
MARKED = 'app:get("/marked", function() return "mark %s" end)\nreturn app'


def marked(source, mark):
    return source.replace("return app", MARKED % mark)


def each_period(count, act):
    due = time.monotonic()
    for number in range(1, count + 1):
        due += PERIOD
        time.sleep(max(0, due - time.monotonic()))
        act(number)


def ours(count, seed):
    """Ledger; marks that nobody may see; what the status says."""
    chance = random.Random(seed)
    with site.demo(lambda source: marked(source, 0)) as node:
        source = (site.DEMO / "app.lua").read_text()
        routes = [*site.HEALTHY, (
            "/marked", request("GET", "/marked"),
            expect(200, contains=b"mark ", note=bytes.decode))]

        def reload(number):
            if chance.random() < 0.2:
                text = marked(source, f"bad {number}") + '\nerror("bad")'
                text = text.replace("return app\nerror", "error")
            else:
                text = marked(source, number)
            write_app(node.app, text)
            node.signal(signal.SIGUSR1)

        with Clients(node.address) as clients:
            clients.add(routes, CLIENTS)
            clients.progress(200)
            each_period(count, reload)
            write_app(node.app, marked(source, "last"))
            eventually(lambda: Admin(node).reload()[0], "the last one", 60)
            assert node.get("/marked").text == "mark last"
            clients.progress(200)
        status = Admin(node).status()
    bad = {mark for mark in clients.ledger.seen["/marked"] if "bad" in mark}
    return clients.ledger, bad, status


def theirs(count):
    nginx = site.anchor()
    if nginx is None:
        return None
    with nginx:
        with Clients(nginx.address) as clients:
            clients.add(site.HELLO, CLIENTS)
            clients.progress(200)
            each_period(count, lambda _: nginx.signal(signal.SIGHUP))
            clients.progress(200)
    return clients.ledger


def run(options):
    count = options.pick(100, 15)
    ledger, bad, status = ours(count, options.seed)
    other = theirs(count)
    done = status["reloads"], status["reloads_failed"]
    return [
        Row(f"{count} reloads, one each 100 ms: failed requests",
            f"{ledger.failed()} of {ledger.count['ok']} "
            f"({done[0]} reloads, {done[1]} refused)", "0",
            ledger.failed() == 0 and done[0] > 1,
            f"nginx {other.failed() / count:.1f} a HUP" if other else "-",
            note=f"{ledger.text()} {ledger.wrong[:5]} {ledger.losses[:5]}"),
        Row("reloads: answers of code that does not load", f"{len(bad)}", "0",
            not bad, note=f"{bad}"),
    ]
