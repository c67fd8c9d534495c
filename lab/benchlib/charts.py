"""The results as SVG charts."""

import os

from .errors import UsageError
from .peers import MINE
from .svg import COLOURS, LogAxis, Picture, spread
from .table import ordered
from .tests.clients import NUMBERS as CLIENTS
from .tests.flows import NUMBERS as FLOWS
from .tests.sizes import SIZES

WIDTH = 760
KINDS = {"vpnlab": ("vpnlab", COLOURS[0]), "user": ("other programs", COLOURS[7]), "yardstick": ("yardsticks", COLOURS[1]),
         "kernel": ("the kernel itself", COLOURS[2])}


def short(value):
    """A number as a label wants it."""
    return f"{value:.0f}" if value >= 20 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"


def ladder(results):
    """TCP throughput of each peer as bars, from the slowest to the fastest."""
    rates = [(peer, results.median(peer, "tcp_gbps"), results.median(peer, "rev_gbps")) for peer in results.peers()]
    rates = sorted((rate for rate in rates if rate[1]), key=lambda rate: rate[1])
    if not rates:
        return None
    row, left, top = 30, 130, 50
    bottom = top + row * len(rates)
    picture = Picture(WIDTH, bottom + 40, "TCP through the tunnel, one stream")
    axis = LogAxis([rate for _, *both in rates for rate in both if rate], left, WIDTH - 50)
    for tick in axis.ticks():
        picture.line(axis(tick), top, axis(tick), bottom)
        picture.text(axis(tick), bottom + 15, short(tick), "middle")
    picture.text((left + WIDTH - 50) / 2, bottom + 32, "Gbit/s; upper bar: to userv, lower bar: from userv", "middle")
    kinds = results.about.get("kinds", {})
    x = left
    for kind in dict.fromkeys(kinds.get(peer, "user") for peer, *_ in reversed(rates)):
        name, colour = KINDS.get(kind, KINDS["user"])
        picture.bar(x, 30, 10, 10, colour)
        picture.text(x + 15, 39, name)
        x += 40 + 7 * len(name)
    for number, (peer, up, down) in enumerate(rates):
        y = top + row * number
        name, colour = KINDS.get(kinds.get(peer), KINDS["user"])
        picture.text(left - 6, y + 19, peer, "end", bold=peer == MINE)
        for rate, at, faint in (up, y + 4, False), (down, y + 15, True):
            if rate:
                picture.bar(left, at, axis(rate) - left, 10, colour, faint)
                picture.text(axis(rate) + 4, at + 9, short(rate), size=10)
    return picture


def curves(results, title, pattern, numbers, names, x_title, y_title):
    """One line for each peer, its name at the line's end."""
    lines = []
    for peer in ordered(results.peers()):
        points = [(number, results.median(peer, pattern.format(number))) for number in numbers]
        points = [(number, value) for number, value in points if value]
        if points:
            lines.append((peer, points))
    if not lines:
        return None
    left, right, top, bottom = 50, WIDTH - 140, 50, 380
    picture = Picture(WIDTH, bottom + 40, title)
    across = LogAxis(numbers, left, right, exact=True)
    up = LogAxis([value for _, points in lines for _, value in points], bottom, top)
    for tick in up.ticks():
        picture.line(left, up(tick), right, up(tick))
        picture.text(left - 6, up(tick) + 4, short(tick), "end")
    free = WIDTH  # from here on there are names already
    for number, name in reversed(list(zip(numbers, names))):
        picture.line(across(number), bottom, across(number), bottom + 4, faint=False)
        if across(number) + 18 < free:
            picture.text(across(number), bottom + 17, name, "middle")
            free = across(number) - 18
    picture.text((left + right) / 2, bottom + 34, x_title, "middle")
    picture.text(0, top - 12, y_title)
    lines.sort(key=lambda line: up(line[1][-1][1]))
    colour_of = {MINE: (COLOURS[0], False)}
    others = [peer for peer in ordered([peer for peer, _ in lines]) if peer != MINE]
    for i, peer in enumerate(others):
        colour_of[peer] = COLOURS[1 + i % (len(COLOURS) - 1)], i >= len(COLOURS) - 1
    for (peer, points), y in zip(lines, spread([up(points[-1][1]) for _, points in lines], 14)):
        colour, dashed = colour_of[peer]
        picture.curve([(across(number), up(value)) for number, value in points], colour, dashed)
        picture.text(right + 12, y + 4, peer, colour=colour, bold=peer == MINE)
    return picture


def draw(results, directory, say):
    """Writes the charts of what was measured."""
    sizes = [f"{size}" if size < 4096 else f"{(size + 1023) // 1024} KiB" for size in SIZES]
    charts = {
        "throughput": ladder(results),
        "sizes": curves(results, "UDP without loss, by the size of the datagrams", "size_{}_gbps", SIZES, sizes,
                        "bytes in a datagram; larger ones than a packet are fragmented", "Gbit/s"),
        "flows": curves(results, "TCP connections at once through one tunnel", "scale_{}_gbps", FLOWS, map(str, FLOWS),
                        "connections", "Gbit/s, all together"),
        "clients": curves(results, "Tunnels at once, each with one TCP connection", "clients_{}_gbps", CLIENTS, map(str, CLIENTS),
                          "tunnels", "Gbit/s, all together"),
    }
    try:
        os.makedirs(directory, exist_ok=True)
        for name, picture in charts.items():
            if picture:
                path = os.path.join(directory, f"{name}.svg")
                with open(path, "w") as file:
                    file.write(str(picture))
                say(f"wrote {path}")
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
