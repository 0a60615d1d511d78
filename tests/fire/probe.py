"""A client in a process of its own, whose clock no other client disturbs: it
asks for one thing at a steady pace and tells how long each answer took.

    with Probe(node.address, "/plain") as probe:
        calm = probe.window(2)
        ...
"""

import multiprocessing
import time

from support.client import Client, Closed, build
from support.node import eventually

FAILED = 60.0  # what counts for a request without an answer, in seconds


class Probe:
    """worker: only connections that this one holds (X-Worker)."""

    def __init__(self, address, target, pause=0.002, worker=None):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(
            target=serve, args=(address, build("GET", target), pause, worker,
                                theirs), daemon=True)
        self.process.start()
        assert self.pipe.poll(60), "the probe has a connection"
        assert self.pipe.recv() == "ready"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pipe.send(None)
        self.process.join(10)
        self.process.kill()
        self.process.join()

    def take(self):
        """Seconds of each answer since the last time."""
        self.pipe.send("take")
        assert self.pipe.poll(FAILED + 10), "the probe answers"
        return self.pipe.recv()

    def window(self, seconds):
        self.take()
        time.sleep(seconds)
        return self.take()


def connect(address, data, worker):
    """A connection that the right worker holds."""
    held = []

    def right():
        client = Client(address)
        client.send(data)
        answer = client.read_response()
        if worker in (None, answer.header("X-Worker")):
            return client
        # Kept open meanwhile, so that the next one is the other worker's.
        held.append(client)
        return None
    try:
        return eventually(right, f"a connection with worker {worker}")
    finally:
        for client in held:
            client.close()


def serve(address, data, pause, worker, pipe):
    client = connect(address, data, worker)
    took = []
    pipe.send("ready")
    while True:
        if pipe.poll():
            if pipe.recv() is None:
                return
            pipe.send(took)
            took = []
        began = time.monotonic()
        try:
            client.send(data)
            status = client.read_response().status
        except (OSError, Closed):
            status = 0
            client = connect(address, data, worker)
        took.append(time.monotonic() - began if status == 200 else FAILED)
        time.sleep(pause)
