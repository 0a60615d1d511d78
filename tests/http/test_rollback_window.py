"""rollback.window: a version that fails more than the one before is left."""

import json

from support.admin import Admin
from support.node import Node, eventually

GOOD = 'app:get("/", function() return "%s" end)'
BAD = 'app:get("/", function() error("bug") end)'
WINDOW = {"rollback.window": "20s", "rollback.error_ratio": "0.2"}


def ask(node, count):
    return [node.get("/").status for _ in range(count)]


def status(node):
    return json.loads(node.command("status", "--json").stdout)


def generation(node):
    return status(node)["generation"]


def test_bad_code_is_left_again():
    with Node(GOOD % "one", workers=2, settings=WINDOW) as node:
        assert set(ask(node, 20)) == {200}
        assert status(node)["rolled_back"] is None
        node.rewrite(BAD)
        assert Admin(node).reload()[0]
        eventually(lambda: 200 in ask(node, 3), "the good code is back")
        eventually(lambda: set(ask(node, 10)) == {200}, "on both workers")
        found = status(node)
        assert found["rollbacks"] == 1 and found["generation"] == 3
        assert "generation 2 was given up: " in found["rolled_back"]
        assert "requests failed" in found["rolled_back"]
        assert found["disk_differs"] is True
        assert "rolled back  generation 2" in node.command("status").stdout
        node.wait_log(r"rollback\.error_ratio = 0\.2: rolling back")
        # What is rolled back to is not on trial: it stays whatever happens.
        node.rewrite(GOOD % "two")
        assert Admin(node).reload()[0]
        assert node.get("/").text == "two"
        assert status(node)["rolled_back"] is None


def test_good_code_stays():
    settings = {**WINDOW, "rollback.window": "1s"}
    with Node(GOOD % "one", settings=settings) as node:
        node.rewrite(GOOD % "two")
        assert Admin(node).reload()[0]
        assert set(ask(node, 30)) == {200}
        node.wait_log(r"generation 2 stays: 0 of \d+ requests failed")
        assert generation(node) == 2


def test_what_failed_before_is_no_reason():
    source = 'app:get("/", function(c) c:fail(503, "%s") end)'
    settings = {**WINDOW, "rollback.window": "1s"}
    with Node(source % "one", settings=settings) as node:
        assert set(ask(node, 30)) == {503}
        node.rewrite(source % "two")
        assert Admin(node).reload()[0]
        assert set(ask(node, 30)) == {503}
        node.wait_log(r"generation 2 stays: \d+ of \d+ requests failed")
        assert generation(node) == 2


def test_without_a_window_it_stays():
    with Node(GOOD % "one") as node:
        node.rewrite(BAD)
        assert Admin(node).reload()[0]
        assert set(ask(node, 30)) == {500}
        assert generation(node) == 2


def test_a_reload_during_the_trial_begins_another():
    with Node(GOOD % "one", settings=WINDOW) as node:
        node.rewrite(GOOD % "two")
        assert Admin(node).reload()[0]
        node.rewrite(BAD)
        assert Admin(node).reload()[0]
        eventually(lambda: set(ask(node, 5)) == {200}, "the code before it")
        assert node.get("/").text == "two"
