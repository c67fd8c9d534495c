"""The results as markdown."""

from .peers import ORDER

# name, heading, factor: the columns of the table of all peers, where they were measured
COLUMNS = [
    ("tcp_gbps", "TCP up Gbit/s"), ("rev_gbps", "down Gbit/s"),
    ("tcp_cpu_per_gb", "tunnel CPU s/GB up"), ("rev_cpu_per_gb", "down"),
    ("tcp_sys_per_gb", "machine CPU s/GB up"), ("rev_sys_per_gb", "down"),
    ("flood_kpps", "flood kpps"), ("flood_cpu_us_per_pkt", "CPU µs/packet"), ("lossfree_kpps", "loss-free kpps"),
    ("overload_ratio", "overload"),
    ("rtt1_p50_us", "rtt1 µs p50"), ("rtt1_p99_us", "p99"), ("rtt_p50_us", "rtt µs p50"), ("rtt_p99_us", "p99"),
    ("rss_mb", "memory MB"),
]
# name, peer it is compared with, heading
RATIOS = [("tcp_gbps", "cmin", "up / cmin"), ("rev_gbps", "cmin", "down / cmin"), ("tcp_gbps", "vxlan", "up / vxlan"),
          ("rev_gbps", "vxlan", "down / vxlan"), ("tcp_gbps", "direct", "up / direct"), ("rev_gbps", "direct", "down / direct"),
          ("lossfree_kpps", "direct", "loss-free / direct")]


def number(value):
    """Three significant digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".") if value else "0"


def markdown(heading, rows):
    """A table with its columns as wide as they need to be; the first is text, the others are numbers."""
    lines = [heading, *rows]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(heading))]

    def line(cells):
        return "| " + " | ".join(cell.ljust(width) if first else cell.rjust(width)
                                 for cell, width, first in zip(cells, widths, [True] + [False] * len(cells))) + " |"
    rule = "|" + "|".join(":" + "-" * (width + 1) if column == 0 else "-" * (width + 1) + ":" for column, width in enumerate(widths)) + "|"
    return "\n".join([line(heading), rule, *map(line, rows)])


def ordered(peers):
    return sorted(peers, key=lambda peer: ORDER.index(peer) if peer in ORDER else len(ORDER))


def main_table(results):
    peers, names = ordered(results.peers()), set(results.names())
    columns = [(name, heading) for name, heading in COLUMNS if name in names]
    ratios = [(name, other, heading) for name, other, heading in RATIOS if name in names and other in peers]
    columns_of = {peer: [number(results.median(peer, name)) for name, _ in columns]
                  + [number(results.ratio(peer, name, other)) for name, other, _ in ratios] for peer in peers}
    heading = ["peer"] + [heading for _, heading in columns] + [heading for *_, heading in ratios]
    rows = [[peer, *cells] for peer, cells in columns_of.items() if set(cells) != {"-"}]
    return [markdown(heading, rows)] if columns else []


def tables(results):
    rounds = f"median of {results.rounds} round{'s' * (results.rounds != 1)}, in turns; ratios inside a round"
    return "\n\n".join([rounds, *main_table(results)])
