"""The routes that are asked for most run compiled: once they are warm nothing is
recorded in vain, and nowhere has LuaJIT given up."""

import os

import pytest

from support import traces
from support.node import ROOT

pytestmark = pytest.mark.skipif(
    any(os.environ.get(name) for name in
        ("MOONSHINE_JIT", "MOONSHINE_GC_STRESS", "MOONSHINE_COVERAGE")),
    reason="the compiler is off, or hardly gets on")


def lines(events):
    return "\n".join(map(str, events))


@pytest.mark.parametrize("app, requests", [
    (ROOT / "apps/demo", traces.DEMO),
    (ROOT / "tests/bench/hot.lua", traces.HOT)], ids=["demo", "hot"])
def test_hot_routes_are_compiled(app, requests):
    recorded = traces.record(app, requests, warm_up=600, rounds=600)
    assert not recorded.given_up(), lines(recorded.given_up())
    assert not recorded.aborts(), lines(recorded.aborts())
    # Each route's chain is the root of a trace.
    roots = {e.fields[3].rpartition(":")[0] for e in recorded.warm
             if e.what == "start" and e.fields[1] == "root"}
    chains = {place for place in roots if "chain of" in place}
    assert len(chains) == len(requests), roots


def test_what_is_given_up_is_told(start):
    """A loop that makes functions cannot be compiled."""
    app = '''
        app:get("/", function()
            local n = 0
            for _ = 1, 100 do
                local function one() return n end
                n = n + one() + 1
            end
            return tostring(n)
        end)
    '''
    node = start(app)
    recorded = traces.record(node.app, [traces.Request("GET", "/")],
                             warm_up=600, rounds=10)
    assert any("app.lua:" in e.fields[1] for e in recorded.given_up()), \
        lines(recorded.warm)
