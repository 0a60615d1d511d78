"""Workers killed, code replaced, nodes stopped, runaways, injections, in short
forms; tests/bench/fire runs all of it at full length and measures.

MOONSHINE_LONG=1 (tests/run --long) runs these at their full length, too.
"""

import importlib
import os

import pytest

from fire import report

OPTIONS = report.Options(quick=not os.environ.get("MOONSHINE_LONG"))


@pytest.mark.seconds(300)
@pytest.mark.parametrize("name", ["kills", "reloads", "stops", "runaways",
                                  "injections"])
def test_under_fire(name):
    report.hold(importlib.import_module(f"fire.{name}").run(OPTIONS))
