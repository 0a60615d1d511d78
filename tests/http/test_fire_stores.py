"""Redis in every kind of trouble, in short; see test_fire.py."""

import os

import pytest

from fire import outages, report, storm

OPTIONS = report.Options(quick=not os.environ.get("MOONSHINE_LONG"))


@pytest.mark.seconds(600)
def test_outages():
    report.hold(outages.run(OPTIONS))


@pytest.mark.seconds(1200)
def test_storm():
    report.hold(storm.run(OPTIONS))
