"""Fixtures of the tests that run real processes."""

import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from support.client import SLOW  # noqa: E402
from support.node import Node  # noqa: E402

TEST_SECONDS = 120


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """A test that hangs fails with its traceback, and the rest goes on."""
    marker = item.get_closest_marker("seconds")
    seconds = (marker.args[0] if marker else TEST_SECONDS) * SLOW

    def expired(*_):
        raise TimeoutError(f"the test took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "seconds(n): how long this test may take at most")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """A failure shows the end of the log of every node that runs."""
    report = (yield).get_result()
    if report.failed:
        for node in Node.running:
            report.sections.append(
                (f"log of {node.name}, pid {node.pid}", node.log()[-4000:]))


def factory():
    nodes = []

    def start(app, *args, **options):
        node = Node(app, *args, **options)
        nodes.append(node)
        return node

    yield start
    # All are stopped even when one of them fails its assertions.
    failures = []
    for node in reversed(nodes):
        if node.home.exists():
            try:
                node.stop()
            except AssertionError as failure:
                failures.append(failure)
    if failures:
        raise failures[0]


@pytest.fixture
def start():
    """start(APP, ...) -> Node for this test; see support/node.py."""
    yield from factory()


@pytest.fixture(scope="module")
def start_shared():
    """The same for all tests of one file."""
    yield from factory()
