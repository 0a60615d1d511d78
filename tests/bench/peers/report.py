"""What was found, as JSON, Markdown and charts, and the part of README.md."""

import json
import statistics

import rows
from chart import bars, number
from life import FIGURES
from setup import ROOT

BEGIN, END = "<!-- tests/bench/run begins -->", "<!-- tests/bench/run ends -->"
US, MS, MIB = 1, 1e-3, 1 / 2**20
CLIENT_FULL = 0.9  # of its core
LONGEST = 8  # bar of a chart: Fastify's would leave nothing of the others


def middle(found, kind, key):
    """The median over rounds; None if there is nothing."""
    values = [each[key] for each in (found or {}).get(kind, [])
              if each["answers"]]
    return statistics.median(values) if values else None


def times(found, other, kind="closed", key="per_second"):
    """How many times the other's figure ours is, round by round: (median,
    least, most)."""
    if not other or not found or not found.get(kind):
        return None
    ratios = [ours[key] / theirs[key] for ours, theirs in
              zip(found[kind], other[kind]) if ours[key] and theirs[key]]
    if not ratios:
        return None
    return statistics.median(ratios), min(ratios), max(ratios)


def shown(value, factor=1):
    return "" if value is None else number(value * factor)


def wrong(found):
    return sum(each["wrong"] + each["failed"] for kind in ("closed", "rate")
               for each in found[kind])


def table(head, lines):
    out = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    return out + ["| " + " | ".join(line) + " |" for line in lines] + [""]


class Report:
    def __init__(self, results):
        self.results = results
        self.names = list(results["titles"])
        self.rows = [(row, results["rows"][row.name]) for row in rows.ROWS
                     if row.name in results["rows"]]

    def titles(self):
        return [self.results["titles"][name] for name in self.names]

    def by_peer(self, cell):
        """Lines of a table: rows, and a cell for each peer or nothing."""
        return [[row.title, *(cell(found, name) if name in found else ""
                              for name in self.names)]
                for row, found in self.rows]

    # The tables of results.md

    def throughput(self):
        def cell(found, name):
            text = shown(middle(found[name], "closed", "per_second")) or "0"
            if (middle(found[name], "closed", "client_busy") or 0) > \
                    CLIENT_FULL:
                text += "\\*"
            ratio = name != self.names[0] and times(
                found.get(self.names[0], {}), found[name])
            if ratio:
                text += " ({}; {} to {})".format(*map(number, ratio))
            bad = wrong(found[name])
            return text + (f", {bad} wrong" if bad else "")

        return ["## Requests a second, as fast as answers come", "",
                f"In brackets: how many times that {self.titles()[0]} serves, "
                "with the least and the most of all rounds. 32 connections "
                "where nothing else is said. \\*: the client had no time "
                "left, so the server might do more.", "",
                *table(["work", *self.titles()], self.by_peer(cell))]

    def cpu(self):
        return ["## CPU seconds a million requests", "",
                "User and system, all processes of the server, in the runs "
                "above; the same number is microseconds a request.", "",
                *table(["work", *self.titles()], self.by_peer(
                    lambda found, name: shown(
                        middle(found[name], "closed", "cpu_us"))))]

    def latency(self):
        lines = []
        for row, found in self.rows:
            some = next((f for f in found.values() if f["rate"]), None)
            if some:
                lines.append([
                    row.title, f"{some['rate'][0]['rate']:,.0f}",
                    *(self.p50_p99(found.get(name)) for name in self.names)])
        return ["## p50 / p99 at equal load, ms", "",
                "Requests are due at fixed times, half as many as the slowest "
                "but one of the row can take; latency counts from when one "
                "was due. A dash: it cannot take that load.", "",
                *table(["work", "a second", *self.titles()], lines)]

    @staticmethod
    def p50_p99(found):
        if not found:
            return ""
        return " / ".join(shown(middle(found, "rate", key), MS) or "-"
                          for key in ("p50_us", "p99_us"))

    def instructions(self):
        some = [name for name in self.names if any(
            found.get(name, {}).get("instructions") for _, found in self.rows)]
        lines = [[row.title, *(number(found[name]["instructions"])
                               if found.get(name, {}).get("instructions")
                               else "" for name in some)]
                 for row, found in self.rows
                 if any(f.get("instructions") for f in found.values())]
        if not lines:
            return []
        return ["## User-space instructions a request", "",
                "By callgrind, as the difference of two run lengths, over 16 "
                "connections. Not of Gin and Fastify: callgrind cannot run "
                "Go's and node's runtimes as they run.", "",
                *table(["work", *(self.results["titles"][name]
                                  for name in some)], lines)]

    def life(self):
        found = self.results["life"]

        def plain(figure, factor):
            return [number(statistics.median(found[figure][name]) * factor)
                    if name in found[figure] else "" for name in self.names]

        def renewed(text):
            return [text(found["reload"][name])
                    if name in found["reload"] else "" for name in self.names]

        def many(runs, which, key, factor=1.0):
            return number(statistics.median(
                run[which][key] for run in runs) * factor)

        lines = []
        if "start" in found:
            lines.append([FIGURES["start"] + ", ms", *plain("start", 1)])
        if "memory" in found:
            lines.append([FIGURES["memory"] + ", MiB", *plain("memory", MIB)])
        if "idle" in found:
            lines.append([FIGURES["idle"] + ", bytes", *plain("idle", 1)])
        if "reload" in found:
            lines += [
                ["new code, by", *renewed(lambda runs: runs[0]["how"])],
                ["order to first new answer, ms",
                 *renewed(lambda runs: many(runs, "with", "new_ms"))],
                ["p99 without / with it, ms", *renewed(
                    lambda runs: many(runs, "without", "p99_us", MS) + " / " +
                    many(runs, "with", "p99_us", MS))],
                ["requests failed, connections refused", *renewed(
                    lambda runs: f"{sum(r['with']['failed'] for r in runs)}, "
                    f"{sum(r['with']['refused'] for r in runs)}")]]
        return ["## Start, memory, new code", "",
                *table(["", *self.titles()], lines)] if lines else []

    def about(self):
        machine = self.results["machine"]
        out = [f"{machine['cpu']}, {machine['cores']} cores, kernel "
               f"{machine['kernel']}; {self.results['when']}, "
               f"{self.results['mode']} run, load average "
               f"{machine['load_before']} before and {machine['load_after']} "
               "after it." + self.busy(), ""]
        out += [f"- {title}: {self.results['versions'][name]}"
                for name, title in self.results["titles"].items()]
        out += [f"- left out: {why}" for why in self.results["left_out"]]
        return [*out, ""]

    def busy(self):
        """A warning if other things ran: the load before it is not ours."""
        before = float(self.results["machine"]["load_before"].split()[0])
        if before < 0.5:
            return ""
        return (" The machine had other work meanwhile: compare CPU and "
                "instructions, and take rates and times lightly.")

    def markdown(self):
        out = ["# Side by side", "",
               "Written by `tests/bench/run`; what is compared and how: "
               "[`peers/`](../peers/README.md).", "", *self.about()]
        if self.rows:
            out += [*self.throughput(), *self.cpu(), *self.latency(),
                    *self.instructions()]
        return "\n".join(out + self.life()).rstrip() + "\n"

    # Charts

    def chart(self, title, kind, key, note):
        """Each peer's figure beside ours, which is 1."""
        names = [name for name in self.names if name != self.names[0]]
        groups = []
        for row, found in self.rows:
            ours = found.get(self.names[0])
            if ours and ours[kind]:
                groups.append((row.title, [1.0] + [
                    inverse(times(ours, found.get(name), kind, key))
                    for name in names]))
        return bars(title, groups, self.titles(), note, LONGEST) \
            if groups else ""

    def charts(self):
        """{file name: SVG}."""
        ours = self.titles()[0]
        drawn = {
            "throughput.svg": self.chart(
                f"Requests a second, {ours} = 1", "closed", "per_second",
                "longer is better"),
            "cpu.svg": self.chart(f"CPU a request, {ours} = 1", "closed",
                                  "cpu_us", "shorter is better"),
            "latency.svg": self.chart(f"p99 at equal load, {ours} = 1", "rate",
                                      "p99_us", "shorter is better")}
        return {name: svg for name, svg in drawn.items() if svg}

    # README.md

    def readme(self):
        """The short table: times each peer's throughput, and CPU and p99
        beside the best of the others that are servers."""
        others = [name for name in self.names[1:]]
        head = ["work", "requests a second",
                *(f"times {self.results['titles'][name]}" for name in others),
                "CPU a request, µs", "p99 at equal load, ms"]
        lines = []
        for row, found in self.rows:
            ours = found[self.names[0]]
            line = [row.title, shown(middle(ours, "closed", "per_second"))]
            for name in others:
                ratio = times(ours, found.get(name))
                line.append(number(ratio[0]) if ratio else "")
            line.append(self.beside(found, "closed", "cpu_us", US))
            line.append(self.beside(found, "rate", "p99_us", MS))
            lines.append(line)
        return "\n".join([
            *table(head, lines),
            "In brackets: the best of the others, without the floor. "
            f"{self.results['mode'].capitalize()} run of "
            f"{self.results['when']}; all figures, versions and spreads: "
            "[`tests/bench/results/`](tests/bench/results/results.md)."
            + self.busy(), "",
            "![Requests a second](tests/bench/results/throughput.svg)"])

    def beside(self, found, kind, key, factor):
        values = {name: middle(each, kind, key) for name, each in
                  found.items() if name != "floor"}
        values = {name: value for name, value in values.items()
                  if value is not None}
        ours = values.pop(self.names[0], None)
        if ours is None:
            return ""
        text = number(ours * factor)
        if values:
            text += f" ({number(min(values.values()) * factor)})"
        return text


def inverse(ratio):
    return ratio and (1 / ratio[0], 1 / ratio[2], 1 / ratio[1])


def write(results, folder):
    """results.json, results.md and the charts."""
    folder.mkdir(parents=True, exist_ok=True)
    report = Report(results)
    (folder / "results.json").write_text(
        json.dumps(results, indent=1) + "\n")
    (folder / "results.md").write_text(report.markdown())
    for name, svg in report.charts().items():
        (folder / name).write_text(svg)
    return report


def refresh(report, path=ROOT / "README.md"):
    """Puts the short table between the marks in README.md."""
    text = path.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no line {BEGIN} or {END}")
    path.write_text(f"{before}{BEGIN}\n\n{report.readme()}\n\n{END}{after}")
