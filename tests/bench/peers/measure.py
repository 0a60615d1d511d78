"""Measures rows: every peer in turn, round after round (A B A B), each on the
same core, with the client on another. What is wrong while it is timed counts,
and shows in the report."""

import contextlib
import functools
import statistics

import grind
import rows
from server import Server

SESSIONS = 64


def spread(values):
    values = list(values)
    return {"median": statistics.median(values), "min": min(values),
            "max": max(values)}


class Contest:
    """The peers of some rows, all running; only one is asked at a time."""

    def __init__(self, client, plan, say):
        self.client, self.plan, self.say = client, plan, say

    def requests(self, row, server):
        if not row.session:
            return [row.request()]
        return [row.request(cookie)
                for cookie in rows.cookies(server, SESSIONS)]

    def check(self, row, servers):
        """What each sends, and the options with which its client checks."""
        out = {}
        for name, server in servers.items():
            try:
                expected = row.check(row, server)
            except (AssertionError, OSError) as error:
                raise AssertionError(
                    f"{server.peer.title} answers {row.path} wrongly: "
                    f"{error}\n{server.log()}") from error
            out[name] = (self.requests(row, server),
                         {"status": row.status, **expected})
        return out

    def ask(self, row, server, sent, **options):
        """A run of the client, and the CPU that the server took for it."""
        requests, expected = sent
        pids = ",".join(str(pid) for pid in server.pids())
        got = self.client.run(
            server, requests, connections=row.connections,
            warmup=self.plan.settle, pids=pids, **expected, **options)
        return {"per_second": got["answers"] / got["seconds"],
                "cpu_us": got["server_cpu_seconds"] * 1e6 /
                (got["answers"] or float("inf")),
                "client_busy": got["client_cpu_seconds"] / (
                    got["seconds"] + self.plan.settle),
                **{key: got[key] for key in (
                    "answers", "wrong", "failed", "p50_us", "p99_us",
                    "p999_us", "max_us")}}

    def throughput(self, row, servers, sent, found):
        """Closed loop: as fast as answers come."""
        for number in range(self.plan.rounds + 1):
            for name, server in servers.items():
                got = self.ask(row, server, sent[name], pipeline=row.pipeline,
                               seconds=self.plan.seconds if number
                               else self.plan.warmup)
                if number > 0:  # first the JIT, pools and caches warm up
                    found[name]["closed"].append(got)

    def latency(self, row, servers, sent, found):
        """The same load for all: half of what the slowest but one can take.
        Who cannot take that is not asked."""
        able = {name: statistics.median(r["per_second"] for r in
                                        found[name]["closed"])
                for name in servers}
        rate = max(20, round(sorted(able.values())[:2][-1] * self.plan.load))
        for _ in range(self.plan.latency_rounds):
            for name, server in servers.items():
                if able[name] >= rate:
                    found[name]["rate"].append({"rate": rate, **self.ask(
                        row, server, sent[name], rate=rate,
                        seconds=self.plan.seconds)})

    def row(self, row, servers):
        """{peer: what was found}."""
        servers = {name: servers[name] for name in row.peers
                   if name in servers}
        found = {name: {"closed": [], "rate": []} for name in servers}
        sent = self.check(row, servers)
        self.throughput(row, servers, sent, found)
        if row.latency and self.plan.latency_rounds:
            self.latency(row, servers, sent, found)
        for name in found:
            self.say(f"  {row.title:36} {servers[name].peer.title:12}"
                     + summary(found[name]))
        return found


def summary(found):
    per_second = spread(r["per_second"] for r in found["closed"])
    cpu = spread(r["cpu_us"] for r in found["closed"])
    text = (f"{per_second['median']:9.0f}/s  {cpu['median']:7.2f} us CPU")
    if found["rate"]:
        p99 = spread(r["p99_us"] for r in found["rate"])
        text += f"  p99 {p99['median'] / 1000:7.2f} ms"
    wrong = sum(r["wrong"] + r["failed"] for key in ("closed", "rate")
                for r in found[key])
    return text + (f"  {wrong} WRONG" if wrong else "")


@contextlib.contextmanager
def ground(folder, peer, redis):
    """For grind.per_request: a server under callgrind, and its worker."""
    with Server(peer, redis=redis if peer.sessions else 0, core=None,
                prefix=grind.valgrind(folder), slow=True,
                seconds=grind.START_SECONDS) as server:
        workers = [pid for pid in server.pids() if pid != server.process.pid]
        yield server, (workers or [server.process.pid])[0]


def instructions(row, peer, redis, client, folder, requests=1000):
    """User-space instructions a request, over 16 connections."""
    folder.mkdir()

    def send(server, count):
        contest = Contest(client, None, print)
        [(sent, options)] = contest.check(row, {peer.name: server}).values()
        got = client.run(server, sent, requests=count,
                         connections=min(16, row.connections),
                         pipeline=row.pipeline, **options)
        if got["wrong"] or got["failed"]:
            raise AssertionError(f"{peer.title} under callgrind: {got}")

    return grind.per_request(
        functools.partial(ground, peer=peer, redis=redis), send, requests,
        folder / f"{row.name}-{peer.name}")
