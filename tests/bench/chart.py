"""Charts as SVG, legible on light and dark pages; needs nothing else.

    Drawing(640, 200).text(8, 20, "title").rect(8, 30, 100, 12, series=0)
    bars("title", [("row", [("Moonshine", 1.0, 0.9, 1.1), None])], names)
    lines("title", [("Moonshine", [(10, 4.1), (1000, 4.2)])], "routes", "us")

Colours are named by the number of a series and stay with it. A page's dark
theme reaches an SVG in an <img> through prefers-color-scheme.
"""

import html
import math

# (on light, on dark) for each series.
COLOURS = [("#1f6feb", "#58a6ff"), ("#d1690b", "#f0883e"),
           ("#0f8a5f", "#3fb68b"), ("#8250df", "#b083f0"),
           ("#8c959f", "#8b949e"), ("#afb8c1", "#5d6670")]
CHARACTER = 6.4  # about as wide as one is, at 12 pixels


def style():
    def rules(which, text, soft, line):
        out = [f".t{{fill:{text}}}.m{{fill:{soft}}}.g{{stroke:{line}}}"
               f".k{{stroke:{text}}}"]
        for number, colours in enumerate(COLOURS):
            out.append(f".f{number}{{fill:{colours[which]}}}"
                       f".s{number}{{stroke:{colours[which]}}}")
        return "".join(out)

    return ("<style>text{font:12px sans-serif}path,line{fill:none}"
            + rules(0, "#1f2328", "#59636e", "#d8dee4")
            + "@media(prefers-color-scheme:dark){"
            + rules(1, "#e6edf3", "#9198a1", "#3d444d") + "}</style>")


def number(value):
    """As short as it can be read: 12,300 or 4.31 or 0.082."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, min(digits, 4))}f}"


class Drawing:
    """Pixels from the top left; each method returns the drawing."""

    def __init__(self, width, height):
        self.width, self.height, self.parts = width, height, []

    def text(self, x, y, text, anchor="start", soft=False, bold=False):
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="'
                          f'{"m" if soft else "t"}" text-anchor="{anchor}"'
                          f'{weight}>{html.escape(str(text))}</text>')
        return self

    def rect(self, x, y, width, height, series):
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" '
            f'height="{height:.1f}" class="f{series}"/>')
        return self

    def path(self, points, series=None, soft=False, wide=1):
        kind = f"s{series}" if series is not None else "g" if soft else "k"
        way = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path d="M{way}" class="{kind}" '
                          f'stroke-width="{wide}"/>')
        return self

    def dot(self, x, y, series):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" '
                          f'class="f{series}"/>')
        return self

    def svg(self):
        return "\n".join(
            [f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" '
             f'height="{self.height}" viewBox="0 0 {self.width} '
             f'{self.height}">', style(), *self.parts, "</svg>"]) + "\n"


def legend(drawing, names, y, x=8):
    """names: [(name, series)], in a row."""
    for name, series in names:
        drawing.rect(x, y - 9, 10, 10, series).text(x + 14, y, name)
        x += 30 + CHARACTER * len(name)
    return drawing


def bars(title, groups, names, note="", most=math.inf, width=720, left=245):
    """Horizontal bars. names: the series; groups: [(label, [bar or None for
    each series])], where a bar is a value or (value, low, high). What is more
    than `most` is drawn as that, with its value beside."""
    tall, gap = 11, 3
    count = sum(1 + sum(bar is not None for bar in row) for _, row in groups)
    drawing = Drawing(width, 58 + count * tall + len(groups) * gap)
    drawing.text(8, 18, title, bold=True)
    legend(drawing, list(zip(names, range(len(names)))), 38)
    if note:
        drawing.text(width - 8, 18, note, "end", soft=True)
    top = min(most, max(high for _, row in groups for bar in row
                        if bar is not None
                        for _, _, high in [whole(bar)]))
    scale = (width - left - 60) / (top or 1)
    y = 58
    for label, row in groups:
        drawing.text(left - 8, y + tall, label, "end")
        for series, bar in enumerate(row):
            if bar is None:
                continue
            value = whole(bar)[0]
            drawn, low, high = (min(n, top) for n in whole(bar))
            drawing.rect(left, y, drawn * scale, tall - 2, series)
            if high > low:
                middle = y + (tall - 2) / 2
                drawing.path([(left + low * scale, middle),
                              (left + high * scale, middle)])
            drawing.text(left + max(drawn, high) * scale + 5, y + tall - 2,
                         number(value), soft=True)
            y += tall
        y += tall + gap
    return drawing.svg()


def whole(bar):
    return bar if isinstance(bar, tuple) else (bar, bar, bar)


def ticks(low, high, log):
    if log:
        return [10 ** n for n in range(math.floor(math.log10(low)),
                                       math.ceil(math.log10(high)) + 1)]
    step = 10 ** math.floor(math.log10(high - low or 1))
    for factor in (0.2, 0.5, 1, 2, 5):
        if (high - low) / (step * factor) <= 6:
            step *= factor
            break
    count = math.ceil((high - low) / step - 1e-9)
    return [low + n * step for n in range(count + 1)]


def axis(values, log, zero):
    """(ticks, from value to 0..1)."""
    low, high = min(values), max(values)
    if zero and not log:
        low = min(0, low)
    marks = ticks(low, high, log)
    first, last = marks[0], marks[-1]
    if log:
        return marks, lambda v: math.log(v / first) / (
            math.log(last / first) or 1)
    return marks, lambda v: (v - first) / ((last - first) or 1)


def lines(title, series, x_title, y_title, log_x=False, log_y=False,
          width=720, height=300):
    """series: [(name, [(x, y), ...])]. The y axis starts at 0 unless it is
    logarithmic."""
    left, top, right, bottom = 60, 56, 20, 42
    drawing = Drawing(width, height)
    drawing.text(8, 18, title, bold=True)
    legend(drawing, [(name, n) for n, (name, _) in enumerate(series)], 38)
    points = [point for _, each in series for point in each]
    x_marks, x_of = axis([x for x, _ in points], log_x, False)
    y_marks, y_of = axis([y for _, y in points], log_y, True)

    def at(x, y):
        return (left + x_of(x) * (width - left - right),
                height - bottom - y_of(y) * (height - top - bottom))

    for mark in y_marks:
        y = at(x_marks[0], mark)[1]
        drawing.path([(left, y), (width - right, y)], soft=True)
        drawing.text(left - 6, y + 4, f"{mark:,.6g}", "end", soft=True)
    for mark in x_marks:
        x = at(mark, y_marks[0])[0]
        drawing.text(x, height - bottom + 16, f"{mark:,.6g}", "middle",
                     soft=True)
    drawing.text(width - right, height - 8, x_title, "end")
    drawing.text(width - 8, 18, y_title, "end", soft=True)
    for n, (_, each) in enumerate(series):
        way = [at(x, y) for x, y in each]
        drawing.path(way, series=n, wide=2)
        for x, y in way:
            drawing.dot(x, y, n)
    return drawing.svg()
