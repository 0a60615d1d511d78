"""64 users over a proxy that stalls, delays, cuts, loses and garbles what goes to
Redis, which itself stops by turns; some leave in the middle of a request: a million
answers about sessions, each checked."""

import multiprocessing
import random
import time

from fire.report import Row, percentile
from fire.site import SETTINGS
from support.crowd import APP, Crowd, Wrong
from support.faults import Proxy
from support.node import Node
from support.servers import RedisServer

USERS = 64
MODES = ["delay", "freeze", "deaf", "mute", "garble", "trickle"]
# No network loses the middle of a stream and goes on with its rest.
LOSING = ["freeze", "deaf", "mute"]


class FarProxy:
    """The proxy in a process of its own: it would slow down the users."""

    def __init__(self, port):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(
            target=self.serve, args=(port, theirs), daemon=True)
        self.process.start()
        self.port = self.pipe.recv()

    @staticmethod
    def serve(port, pipe):
        with Proxy(("127.0.0.1", port)) as proxy:
            pipe.send(proxy.port)
            while (said := pipe.recv()) is not None:
                name, value = said
                if name in ("mode", "seconds"):
                    setattr(proxy, name, value)
                else:
                    getattr(proxy, name)(*value)

    def say(self, name, value):
        self.pipe.send((name, value))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pipe.send(None)
        self.process.join(10)
        self.process.kill()
        self.process.join()


def trouble(chance, proxy, redis):
    """One fault, from its beginning to its end; its name."""
    name = chance.choice(MODES + ["cut", "cut after", "refuse", "stop"])
    seconds = chance.uniform(0.05, 0.7)
    if name == "cut":
        proxy.say("cut", ())
    elif name == "cut after":
        proxy.say("cut", (chance.randrange(1, 2000),))
    elif name == "refuse":
        proxy.say("refuse", ())
        time.sleep(seconds)
        proxy.say("accept", ())
    elif name == "stop":
        redis.pause()
        time.sleep(seconds)
        redis.resume()
    else:
        proxy.say("seconds", chance.uniform(0.01, 0.4))
        proxy.say("mode", name)
        time.sleep(seconds)
        if name in LOSING:
            proxy.say("cut", (None, "pass"))
        proxy.say("mode", "pass")
    return name


def storm(crowd, seconds, proxy, redis, seed):
    """Until the crowd did its work; how many faults there were."""
    chance = random.Random(seed)
    ends = time.monotonic() + seconds
    faults = 0
    while crowd.thread.is_alive() and time.monotonic() < ends:
        trouble(chance, proxy, redis)
        faults += 1
        time.sleep(chance.uniform(0.1, 1.5))
    return faults


def run(options):
    operations = options.pick(1000000, 12000)
    seconds = options.length(600, 8)
    with RedisServer(appendonly="yes") as redis, \
            FarProxy(redis.port) as proxy, \
            Node(APP, workers=2, settings={
                "session.url": f"redis://127.0.0.1:{proxy.port}",
                **SETTINGS}) as node:
        crowd = Crowd([node.address], users=options.pick(USERS, 16),
                      aborts=0.01, seed=options.seed, limit=operations)
        wrong, known, tried, faults = "", 0, 0, 0
        try:
            with crowd:
                faults = storm(crowd, seconds, proxy, redis, options.seed)
            known, tried = crowd.final()
        except Wrong as error:
            wrong = str(error)
    counts = crowd.statuses
    refused = [took for (_, status), some in crowd.latencies.items()
               if status == 503 for took in some]
    enough = crowd.operations >= operations or \
        bool(options.seconds or options.quick)
    return [
        Row(f"sessions of {len(crowd.visitors)} users, {faults} faults: "
            "values with a wrong owner, counts that are lost",
            f"{wrong or 0} in {crowd.operations} answers "
            f"({counts[503]} times 503, {counts['left']} left)",
            f"0 in {operations}", not wrong and enough and faults > 0),
        Row("the same: increments kept, of those that were tried",
            f"{known} of {tried}", "all that were confirmed",
            0 < known <= tried),
        Row("the same: a 503 takes", f"p99 {percentile(refused, 0.99) * 1e3:.0f}"
            f", most {percentile(refused, 1) * 1e3:.0f} ms", "p99 <= 300 ms",
            percentile(refused, 0.99) <= 0.3, exact=False),
    ]
