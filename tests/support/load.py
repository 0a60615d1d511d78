"""Clients that ask without a pause and check every answer.

    with Load(node, "/ok", clients=8) as load:
        ...
    load.answers, load.failures

A failure is any answer that is not what was expected, and any connection that
ended in the middle of one. A connection that the server closed after an answer
(Connection: close) is opened again; that is no failure.
"""

import collections
import threading

from support.client import Client, Closed, build
from support.node import eventually


class Load:
    def __init__(self, node, target, clients=4, status=200, body=None,
                 expect_closed=False):
        self.node = node
        self.data = build("GET", target)
        self.status = status
        self.body = body
        self.expect_closed = expect_closed
        self.stopped = threading.Event()
        self.answers = 0
        self.bodies = collections.Counter()
        self.failures = []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.ask, daemon=True)
                        for _ in range(clients)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)

    def progress(self, answers):
        """Waits until so many more answers came."""
        goal = self.answers + answers
        eventually(lambda: self.answers >= goal or
                   not any(t.is_alive() for t in self.threads),
                   f"{answers} more answers", 60)

    def ask(self):
        client = None
        while not self.stopped.is_set():
            try:
                client = client or Client(self.node.address)
                client.send(self.data)
                response = client.read_response()
            except (OSError, Closed) as error:
                client = None
                with self.lock:
                    self.failures.append(repr(error))
                    if len(self.failures) > 10000:
                        return
                continue
            with self.lock:
                self.answers += 1
                self.bodies[response.body] += 1
                if response.status != self.status or (
                        self.body is not None and response.body != self.body):
                    self.failures.append(repr(response))
            closing = response.header("Connection", "").lower() == "close"
            if closing:
                client.close()
                client = None
        if client:
            client.close()
