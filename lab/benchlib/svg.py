"""Just enough of SVG: a picture of texts, lines and rectangles, and axes that numbers are placed on.

Nothing lies behind what is drawn, and all colours are of a middle lightness: they can be read on white and on black.
"""

import math
from xml.sax.saxutils import escape

INK = "#767676"  # texts and axes: the grey that is as far from white as from black
COLOURS = ["#2f81c9", "#d2691e", "#3a9557", "#9a63c9", "#c94f5c", "#2a9494", "#9c7a3c", "#7a7a7a"]


class Picture:
    def __init__(self, width, height, title):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
            f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">',
            f"<title>{escape(title)}</title>",
        ]
        self.text(0, 16, title, size=14, bold=True)

    def text(self, x, y, text, anchor="start", colour=None, size=None, bold=False):
        more = (f' text-anchor="{anchor}"' if anchor != "start" else "") + (f' fill="{colour}"' if colour else "") + (
            f' font-size="{size}"' if size else "") + (' font-weight="bold"' if bold else "")
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(text)}</text>')

    def line(self, x1, y1, x2, y2, faint=True):
        opacity = ' stroke-opacity="0.3"' if faint else ""
        self.parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{INK}"{opacity}/>')

    def bar(self, x, y, width, height, colour, faint=False):
        opacity = ' fill-opacity="0.55"' if faint else ""
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" fill="{colour}"{opacity}/>')

    def curve(self, points, colour, dashed=False):
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 3"' if dashed else ""
        self.parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
        self.parts.append(f'<path d="{dots}" stroke="{colour}" stroke-width="6" stroke-linecap="round"/>')

    def __str__(self):
        return "\n".join([*self.parts, "</svg>"]) + "\n"


class LogAxis:
    """Places numbers between two pixels by their logarithms: from a power of ten to another, or exactly from first to last."""

    def __init__(self, values, start, end, exact=False):
        self.start, self.end = start, end
        self.low, self.high = math.log10(min(values)), math.log10(max(values))
        if not exact:
            self.low = math.floor(self.low + 1e-9)
            self.high = max(math.ceil(self.high - 1e-9), self.low + 1)

    def __call__(self, value):
        part = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self):
        return [10.0 ** power for power in range(math.ceil(self.low), math.floor(self.high) + 1)]


def spread(places, distance):
    """Moves places apart from one another, as little as it takes, so that texts there do not overlap."""
    groups = []  # [mean of where they want to be, number of them]
    for place in sorted(places):
        groups.append([place, 1])
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < distance * (groups[-1][1] + groups[-2][1]) / 2:
            last, number = groups.pop()
            groups[-1] = [(groups[-1][0] * groups[-1][1] + last * number) / (groups[-1][1] + number), groups[-1][1] + number]
    return [middle + distance * (i - (number - 1) / 2) for middle, number in groups for i in range(number)]
