"""Sums the reports of one test run: tally.py DIRECTORY

Reads the JUnit files of ctest and pytest and the file `verdicts` of
tests/run, prints the names of what failed and one last line
`N passed, N failed, N skipped`. Exits 1 when anything failed or nothing ran.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree as ET

CMOCKA = re.compile(
    r"^\[\s+(PASSED|FAILED|SKIPPED)\s+\] (\d+) test\(s\)", re.MULTILINE)
OUTCOMES = {"PASSED": "passed", "FAILED": "failed", "SKIPPED": "skipped"}


def read_case(case, sums, failures):
    """Adds one <testcase>: itself, or the cmocka tests that it ran."""
    outcome = "passed"
    if case.find("skipped") is not None or case.get("status") == "disabled":
        outcome = "skipped"
    if case.find("failure") is not None or case.find("error") is not None:
        outcome = "failed"
    inner = CMOCKA.findall(case.findtext("system-out") or "")
    for word, count in inner:
        sums[OUTCOMES[word]] += int(count)
    if outcome == "failed":
        failures.append(f"{case.get('classname', '')} {case.get('name')}")
    # A program that died prints no summary, or only part of one.
    listed = any(word == "FAILED" for word, _ in inner)
    if not inner or (outcome == "failed" and not listed):
        sums[outcome] += 1


def main(directory):
    sums = {"passed": 0, "failed": 0, "skipped": 0}
    failures = []
    for report in sorted(directory.glob("*.xml")):
        try:
            cases = ET.parse(report).iter("testcase")
        except ET.ParseError as error:
            failures.append(f"{report.name}: {error}")
            sums["failed"] += 1
            continue
        for case in cases:
            read_case(case, sums, failures)
    for line in (directory / "verdicts").read_text().splitlines():
        outcome, name = line.split(" ", 1)
        sums[outcome] += 1
        if outcome == "failed":
            failures.append(name)
    for name in failures:
        print("failed:", name)
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**sums))
    return 1 if sums["failed"] or not sums["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
