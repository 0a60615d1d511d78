"""Figures under fire: what was to be shown, beside an anchor that was measured
in the same run. Printed as a table; kept as JSON and Markdown."""

import dataclasses
import datetime
import json
import os
import pathlib
import subprocess

from support.node import BINARY, ROOT

RESULTS = pathlib.Path(ROOT) / "tests/bench/results"
TITLES = ("figure", "anchor", "shown", "to show", "met")


@dataclasses.dataclass
class Options:
    """quick: seconds instead of minutes. seconds: how long the scenarios that
    last for a time do, whatever is usual."""
    quick: bool = False
    seconds: float = None
    seed: str = "fire"

    def length(self, full, quick):
        return self.seconds or (quick if self.quick else full)

    def pick(self, full, quick):
        return quick if self.quick else full


@dataclasses.dataclass
class Row:
    figure: str
    shown: str
    target: str
    met: bool
    anchor: str = "-"
    exact: bool = True  # a count, the same on any machine; False: a time
    note: str = ""      # printed below, if it is not met


def percentile(values, share):
    """Of a list, unsorted; 0 of none."""
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] \
        if values else 0.0


def cells(row):
    return (row.figure, row.anchor, row.shown, row.target,
            "yes" if row.met else "NO")


def table(rows):
    lines = [TITLES, *map(cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(TITLES))]
    text = "\n".join("  ".join(
        cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
        for line in lines)
    notes = "".join(f"\n{row.figure}: {row.note}" for row in rows
                    if row.note and not row.met)
    return text + notes


def hold(rows):
    """For a test: what is counted must be as it should; what is timed is said."""
    print(table(rows))
    assert all(row.met for row in rows if row.exact), table(
        [row for row in rows if row.exact and not row.met])


def machine():
    version = subprocess.run([BINARY, "version"], capture_output=True,
                             text=True, check=False).stdout.strip()
    return {"when": datetime.datetime.now().isoformat(timespec="seconds"),
            "version": version, "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2)}


def keep(rows, options, seconds, name="fire"):
    """Writes results/NAME.json and .md."""
    RESULTS.mkdir(exist_ok=True)
    facts = dict(machine(), quick=options.quick, seconds=round(seconds))
    (RESULTS / f"{name}.json").write_text(json.dumps(
        dict(facts, rows=[dataclasses.asdict(row) for row in rows]),
        indent=1) + "\n")
    lines = [TITLES, ("---",) * len(TITLES), *map(cells, rows)]
    body = "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in line) +
                     " |" for line in lines)
    about = ", ".join(f"{key} {value}" for key, value in facts.items())
    (RESULTS / f"{name}.md").write_text(
        f"# Under fire\n\n{body}\n\n{about}\n")
