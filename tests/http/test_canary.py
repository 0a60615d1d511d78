"""Many visitors at once, each with a name in all that is theirs: none is ever
given the name of another, and the log has no secret of theirs."""

import os
import random
import signal

import pytest

from support.admin import Admin
from support.canary import FILES, SECRET, Flock
from support.node import BINARY, eventually

MANY = 1500 if "asan" in BINARY else 4000


def nothing_told(node):
    log = node.log()
    lines = [line for line in log.split("\n") if SECRET + "own" in line]
    assert lines == [], lines[:5]
    assert "it went wrong" in log and "access" in log


@pytest.mark.parametrize("jit", ["on", "off"])
def test_nobody_is_given_what_is_anothers(start, jit):
    node = start(FILES, workers=2, env={"MOONSHINE_JIT": jit},
                 settings={"body_buffer": "2k", "log.level": "debug"})
    with Flock([node.address], seed=jit) as flock:
        flock.wait(MANY)
    nothing_told(node)


def test_across_reloads(start):
    node = start(FILES, workers=2)
    with Flock([node.address], seed="reloads") as flock:
        for number in range(8):
            node.rewrite({"lib/number.lua": f"return {number}"})
            assert Admin(node).reload()[0]
            flock.wait(MANY // 10)
    nothing_told(node)


def test_across_deaths(start):
    node = start(FILES, workers=2)
    chance = random.Random("deaths")
    with Flock([node.address], seed="deaths", may_cut=True) as flock:
        for _ in range(5):
            pid = chance.choice(Admin(node).wait_serving(2))["pid"]
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: pid not in node.children(), "it is dead")
            flock.wait(MANY // 10)
    nothing_told(node)
