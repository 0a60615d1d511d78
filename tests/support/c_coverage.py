#!/usr/bin/env python3
"""Which lines of core/ ran: c_coverage.py BUILD [--floor FILE] [--missed FILE]...

BUILD is a build with MOONSHINE_GCOV whose programs ran. Prints the lines that
can run and that ran, by room, and the files that miss most; with --missed, all
lines of that file that did not run, with their text. Fails below the floor.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys

from coverage import ROOT, check_floor, cut, print_missed, runs, table

WORST = 25
AT_ONCE = 40  # files a call of gcov


def reports(build):
    """What gcov says about each object."""
    notes = sorted(str(path) for path in pathlib.Path(build).rglob("*.gcno"))
    if not notes:
        raise SystemExit(f"c_coverage.py: nothing to count in {build}")
    for i in range(0, len(notes), AT_ONCE):
        result = subprocess.run(
            ["gcov", "--json-format", "--stdout", *notes[i:i + AT_ONCE]],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if result.returncode != 0:
            raise SystemExit(result.stderr.decode())
        for line in result.stdout.splitlines():
            yield json.loads(line)


def read(build):
    """{file below core: {line: how often it ran}}."""
    files = collections.defaultdict(collections.Counter)
    core = ROOT / "core"
    for report in reports(build):
        start = pathlib.Path(report["current_working_directory"])
        for part in report["files"]:
            path = pathlib.Path(start, part["file"]).resolve()
            if not path.is_relative_to(core):
                continue
            lines = files[str(path.relative_to(core))]
            for line in part["lines"]:
                lines[line["line_number"]] += line["count"]
    return {name: (set(lines), {n for n, count in lines.items() if count})
            for name, lines in files.items()}


def rooms(files):
    found = collections.defaultdict(lambda: (set(), set()))
    for name, both in files.items():
        for mine, lines in zip(found[pathlib.Path(name).parts[0]], both):
            mine |= {(name, line) for line in lines}
    return found


def print_worst(files):
    worst = sorted(files, key=lambda n: len(files[n][1]) - len(files[n][0]))
    width = max(map(len, worst[:WORST]))
    print(f"\nmost is missed in ({WORST} of {len(files)} files)")
    for name in worst[:WORST]:
        can, ran = files[name]
        print(f"{name:{width}}  {len(can):6}  {len(can - ran):6} missed"
              f"  {100 * len(ran) / len(can):5.1f}%"
              f"  {cut(runs(can - ran, can))}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--floor", metavar="FILE")
    parser.add_argument("--missed", metavar="FILE", action="append")
    options = parser.parse_args()
    files = read(options.build)
    for name in options.missed or []:
        print_missed(name, files, "core")
    if options.missed:
        return 0
    can, ran = table(rooms(files), "room", with_missed=False)
    print_worst(files)
    return check_floor("C", can, ran, options.floor)


if __name__ == "__main__":
    sys.exit(main())
