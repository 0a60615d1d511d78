"""A minute of everything the demo does, good and bad: nothing grows. By hand for
longer: tests/bench/fire soak --seconds 1800."""

import pytest

from fire import report, soak
from support.node import BINARY

# What sanitizers slow down gets less: they find other things.
SANITIZED = b"__asan_init" in open(BINARY, "rb").read()


@pytest.mark.seconds(300)
def test_soak():
    report.hold(soak.run(report.Options(seconds=15 if SANITIZED else 60)))
