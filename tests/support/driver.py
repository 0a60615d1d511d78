"""Drives the Redis client of the core through redis_driver (redis_driver.c).

    with Driver() as d:
        d.open("c", "redis://127.0.0.1:6379")
        assert d.call("c", "GET", "key") == "value"

Leaving the block ends the driver and asserts that it left nothing: no handle,
no descriptor, no unanswered command, no report of a sanitizer.
"""

import json
import pathlib
import queue
import subprocess
import threading
import time

from support.node import BINARY, SANITIZED, environment

DRIVER = pathlib.Path(BINARY).parents[1] / "tests/redis_driver"


def word(text):
    data = text if isinstance(text, bytes) else str(text).encode()
    data = data or b"\0"  # which the driver takes for the end
    return "".join(chr(b) if 0x20 < b < 0x7f and b not in b"%" else f"%{b:02X}"
                   for b in data)


class Failed(AssertionError):
    def __init__(self, outcome):
        super().__init__(f"{outcome['err']}: {outcome['why']}")
        self.code, self.why = outcome["err"], outcome["why"]


class Driver:
    def __init__(self, env=None):
        self.process = subprocess.Popen(
            [str(DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment(env), bufsize=1)
        self.events = queue.Queue()
        self.kept = []
        self.errors = []
        self.serial = 0
        for target, stream in ((self.read_events, self.process.stdout),
                               (self.read_errors, self.process.stderr)):
            threading.Thread(target=target, args=(stream,), daemon=True).start()

    @property
    def pid(self):
        return self.process.pid

    def read_events(self, stream):
        for line in stream:
            event = json.loads(line)
            event["at"] = time.monotonic()
            self.events.put(event)
        self.events.put(None)

    def read_errors(self, stream):
        for line in stream:
            self.errors.append(line)

    def log(self):
        return "".join(self.errors)

    # ---- commands ----

    def send(self, *words):
        self.process.stdin.write(" ".join(word(w) for w in words) + "\n")
        self.process.stdin.flush()

    def wait(self, event=None, name=None, seconds=30.0):
        """The next event of that kind and name; others are kept for later."""
        def fits(seen):
            return (event is None or seen["event"] in event.split("|")) and \
                (name is None or seen["name"] == name)

        for i, seen in enumerate(self.kept):
            if fits(seen):
                return self.kept.pop(i)
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            try:
                seen = self.events.get(timeout=max(left, 0.001))
            except queue.Empty:
                raise AssertionError(
                    f"no {event} {name} within {seconds} s; there were "
                    f"{self.kept[-5:]}\n{self.log()[-2000:]}") from None
            if seen is None:
                raise AssertionError("the driver ended:\n" + self.log()[-6000:])
            if fits(seen):
                return seen
            self.kept.append(seen)

    def open(self, client, url, **options):
        self.send("open", client, url,
                  *[f"{name}={value}" for name, value in options.items()])
        opened = self.wait("open", client)
        if opened["err"] != "OK":
            raise Failed(opened)
        return opened["client"]

    def close(self, client):
        self.send("close", client)

    def tag(self):
        self.serial += 1
        return f"t{self.serial}"

    @staticmethod
    def words(commands, key):
        """"|" between commands; the key of each is its word number `key`, if it
        has that many."""
        line = []
        for command in commands:
            line += ["|"] if line else []
            line += [key if len(command) > key else 0, *command]
        return line

    def begin(self, client, *words, timeout=0, flags="-", key=1, own=None):
        """Starts a command, or several given as lists; its tag."""
        tag = self.tag()
        commands = words if isinstance(words[0], (list, tuple)) else [words]
        self.send("owncall" if own else "call", tag, own or client, timeout,
                  flags, *self.words(commands, key))
        return tag

    def end(self, tag, seconds=30.0):
        return self.wait("done|refused", tag, seconds)

    def outcome(self, client, *words, **options):
        return self.end(self.begin(client, *words, **options))

    def call(self, client, *words, **options):
        """The reply; raises Failed if there is none."""
        outcome = self.outcome(client, *words, **options)
        if outcome["err"] != "OK":
            raise Failed(outcome)
        return outcome["reply"]

    def cancel(self, tag):
        self.send("cancel", tag)

    def script(self, client, source):
        name = self.tag()
        self.send("script", name, client, source)
        return name

    def eval(self, script, keys=(), args=(), timeout=0):
        tag = self.tag()
        self.send("eval", tag, script, timeout, len(keys), *keys, *args)
        outcome = self.end(tag)
        if outcome["err"] != "OK":
            raise Failed(outcome)
        return outcome["reply"]

    def status(self, client):
        self.send("status", client)
        return self.wait("status", client)

    def written(self, client):
        """Waits until all that was begun before has been written: it is when a
        turn of the loop ends, so a second answer comes after that."""
        self.status(client)
        self.status(client)

    def up(self, client, seconds=30.0):
        """Waits until the client is up."""
        deadline = time.monotonic() + seconds
        while not (status := self.status(client))["up"]:
            assert time.monotonic() < deadline, f"not up: {status['why']}"
            time.sleep(0.01)
        return status

    def down(self, client, seconds=30.0):
        deadline = time.monotonic() + seconds
        while (status := self.status(client))["up"] or \
                status["why"] == "connecting":
            assert time.monotonic() < deadline, "still up"
            time.sleep(0.01)
        return status

    def own(self, client, key="-", timeout=2000):
        name = self.tag()
        self.send("own", name, client, timeout, key)
        got = self.wait("own|refused", name)
        if got["err"] != "OK":
            if got["event"] == "own":
                self.send("drop", name)
            raise Failed(got)
        return name

    def load(self, client, users=64, ops=0, max_ms=0, seed=1, **flags):
        name = self.tag()
        self.send("load", name, client, users, ops, max_ms, seed,
                  *[flag for flag, on in flags.items() if on])
        return name

    def loaded(self, name, seconds=60.0):
        """The counts of a load that ends by itself; see stop_load."""
        return self.wait("load", name, seconds)

    def stop_load(self, name):
        self.send("stop", name)
        return self.loaded(name)

    # ---- the end ----

    def finish(self):
        if self.process.poll() is None:
            self.process.stdin.close()
        end = self.wait("end", seconds=30)
        code = self.process.wait(timeout=30)
        return end, code

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                end, code = self.finish()
                log = self.log()
                assert code == 0, f"exit code {code}, {end}\n{log[-6000:]}"
                assert not SANITIZED.search(log), log[-6000:]
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
