"""The admin endpoints of a node, over its unix socket."""

from support.client import Client
from support.node import eventually


class Admin:
    def __init__(self, node, address=None):
        self.address = address or \
            str(node.run_dir / node.name / "admin.sock")

    def ask(self, method, target, headers=None, timeout=60.0):
        with Client(self.address, timeout) as client:
            return client.request(method, target, headers)

    def status(self):
        answer = self.ask("GET", "/-/status")
        assert answer.status == 200, answer
        return answer.json()

    def workers(self):
        return self.status()["workers"]

    def reload(self):
        """Waits for the outcome: (ok, message or error)."""
        return outcome(self.ask("POST", "/-/reload"))

    def rollback(self):
        return outcome(self.ask("POST", "/-/rollback"))

    def requests(self):
        return self.ask("GET", "/-/requests").json()["requests"]

    def wait_serving(self, count, seconds=30.0):
        """Until so many workers serve; their status."""
        def look():
            workers = [w for w in self.workers() if w["state"] == "serving"]
            return workers if len(workers) == count else None
        return eventually(look, f"{count} workers serve", seconds)


def outcome(answer):
    body = answer.json()
    assert body["ok"] == (answer.status == 200), answer
    return body["ok"], body["message"] if body["ok"] else body["error"]
