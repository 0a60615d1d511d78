#!/usr/bin/env python3
"""Which lines of lua/moonshine ran: coverage.py DIR [--floor FILE]
[--missed FILE]...

DIR holds what processes wrote that ran with MOONSHINE_COVERAGE=DIR (the format
is in core/vm/coverage.h). Prints, per file, how many lines can run, how many
ran, and which did not; with --missed, all of those of that file, one a line,
with their text. Fails below the floor (tests/coverage.txt).
"""

import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WIDTH = 40
NOISE = 0.3  # percent that differ from run to run


def numbers(ranges):
    """{3, 4, 5, 9} of ["3-5", "9"]."""
    found = set()
    for text in ranges:
        first, _, last = text.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def read(directory):
    """{name: (lines that can run, lines that ran)} of all reports."""
    files = {}
    for report in sorted(pathlib.Path(directory).iterdir()):
        can = ran = set()
        for line in report.read_text().splitlines():
            word, *rest = line.split()
            if word == "file":
                name = line.partition(" ")[2]
                can, ran = files.setdefault(name, (set(), set()))
            elif word == "can":
                can |= numbers(rest)
            elif word == "ran":
                ran |= numbers(rest)
    return files


def runs(missed, can):
    """Missed lines as ranges, which go on over lines that cannot run."""
    found = []
    for line in sorted(can):
        if line not in missed:
            found.append(None)
        elif found and found[-1]:
            found[-1][1] = line
        else:
            found.append([line, line])
    return [f"{a}" if a == b else f"{a}-{b}" for a, b in filter(None, found)]


def cut(texts):
    shown = ""
    for text in texts:
        if len(shown) > WIDTH:
            return shown + " ..."
        shown += (", " if shown else "") + text
    return shown


def table(files, what="file", with_missed=True):
    """Prints it and returns how many lines can run, and how many ran."""
    width = max(map(len, [*files, "total"]))
    total_can = total_ran = 0

    def row(name, can, ran, missed=""):
        percent = 100 * ran / can if can else 100
        print(f"{name:{width}}  {can:6}  {ran:6}  {percent:5.1f}%  {missed}"
              .rstrip())

    print(f"{what:{width}}  {'lines':>6}  {'ran':>6}  {'':6}  "
          f"{'missed' if with_missed else ''}".rstrip())
    for name, (can, ran) in sorted(files.items()):
        row(name, len(can), len(can & ran),
            cut(runs(can - ran, can)) if with_missed else "")
        total_can += len(can)
        total_ran += len(can & ran)
    row("total", total_can, total_ran)
    return total_can, total_ran


def check_floor(language, can, ran, path):
    """The exit code: 1 if fewer lines ran than the file asks for."""
    if path is None:
        return 0
    floors = dict(line.split() for line in open(path)
                  if line.strip() and not line.startswith("#"))
    floor = float(floors[language])
    percent = 100 * ran / can
    print(f"\n{language}: {percent:.2f} % of {can} lines, the floor is "
          f"{floor:.1f} %")
    if percent < floor:
        print(f"Below the floor. Lines that are new need tests "
              f"({path} says more).")
        return 1
    if percent >= floor + 2 * NOISE:
        print(f"Raise the floor: {language} {percent - NOISE:.1f} in {path}.")
    return 0


def print_missed(name, files, folder):
    if name not in files:
        raise SystemExit(f"no file {name} in the reports")
    can, ran = files[name]
    text = (ROOT / folder / name).read_text().splitlines()
    for line in sorted(can - ran):
        print(f"{line:5}  {text[line - 1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory")
    parser.add_argument("--floor", metavar="FILE")
    parser.add_argument("--missed", metavar="FILE", action="append")
    options = parser.parse_args()
    files = {name: lines for name, lines in read(options.directory).items()
             if name.startswith("moonshine/")}
    if not files:
        raise SystemExit(f"coverage.py: no report in {options.directory}")
    for name in options.missed or []:
        print_missed(name, files, "lua")
    if options.missed:
        return 0
    return check_floor("Lua", *table(files), options.floor)


if __name__ == "__main__":
    sys.exit(main())
