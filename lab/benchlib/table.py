"""The results as markdown tables."""

from .peers import ORDER
from .tests.clients import NUMBERS as CLIENTS
from .tests.flows import NUMBERS as FLOWS
from .tests.sizes import SIZES


def value(heading, name):
    return heading, lambda results, peer: results.median(peer, name)


def ratio(heading, name, other, other_name=None):
    """To another peer, or to another measurement of the same peer (other: None)."""
    return heading, lambda results, peer: results.ratio(peer, name, other or peer, other_name)


def by_number(numbers, pattern):
    return [value(str(number), pattern.format(number)) for number in numbers]


# title, columns; a table or a column of which nothing was measured is left out
TABLES = [
    ("TCP", [
        value("up Gbit/s", "tcp_gbps"), value("down", "rev_gbps"),
        value("tunnel CPU s/GB up", "tcp_cpu_per_gb"), value("down", "rev_cpu_per_gb"),
        value("machine CPU s/GB up", "tcp_sys_per_gb"), value("down", "rev_sys_per_gb"),
        ratio("up / cmin", "tcp_gbps", "cmin"), ratio("down / cmin", "rev_gbps", "cmin"),
        ratio("up / vxlan", "tcp_gbps", "vxlan"), ratio("down / vxlan", "rev_gbps", "vxlan"),
        ratio("up / direct", "tcp_gbps", "direct"), ratio("down / direct", "rev_gbps", "direct")]),
    ("Small packets, latency, memory", [
        value("flood kpps", "flood_kpps"), value("CPU µs/packet", "flood_cpu_us_per_pkt"), value("loss-free kpps", "lossfree_kpps"),
        ratio("/ direct", "lossfree_kpps", "direct"), value("overload", "overload_ratio"),
        value("rtt1 p50 µs", "rtt1_p50_us"), value("p99", "rtt1_p99_us"), value("rtt p50 µs", "rtt_p50_us"), value("p99", "rtt_p99_us"),
        value("memory MB", "rss_mb")]),
    ("Flows", [
        value("4 flows: fairness", "flows_jain"), value("1 flow Gbit/s", "flows1_gbps"), value("4 flows", "flows4_gbps"),
        value("100 flows", "flows100_gbps"), value("100 flows / 1", "flows100_ratio")]),
    ("Ping beside a transfer, ms", [
        value(f"{direction} {what}" if what == "p50" else what.replace("lost_percent", "lost %"), f"ping_{direction}_{what}{unit}")
        for direction in ("up", "down") for what, unit in (("p50", "_ms"), ("p99", "_ms"), ("max", "_ms"), ("lost_percent", ""))]),
    ("IPv6, Gbit/s", [
        column for name, about in (("6in6", "inside and outside"), ("6in4", "inside IPv4")) for column in (
            value(f"{about}: up", f"{name}_tcp_gbps"), value("down", f"{name}_rev_gbps"),
            ratio("up / IPv4", f"{name}_tcp_gbps", None, "tcp_gbps"), ratio("down / IPv4", f"{name}_rev_gbps", None, "rev_gbps"))]),
    ("UDP without loss by bytes in a datagram, Gbit/s", by_number(SIZES, "size_{}_gbps")),
    ("Tunnel's CPU time for each of these datagrams, µs", by_number(SIZES, "size_{}_cpu_us")),
    ("TCP connections at once, Gbit/s", by_number(FLOWS, "scale_{}_gbps")),
    ("TCP connections at once, tunnel CPU s/GB", by_number(FLOWS, "scale_{}_cpu_per_gb")),
    ("Tunnels at once, Gbit/s", by_number(CLIENTS, "clients_{}_gbps")),
    ("Tunnels at once, tunnel CPU s/GB", by_number(CLIENTS, "clients_{}_cpu_per_gb")),
    ("Tunnels at once, memory MB", by_number(CLIENTS, "clients_{}_rss_mb")),
]


def number(value):
    """Three significant digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".") if value else "0"


def markdown(lines):
    """A table with its columns as wide as they need to be; the first is text, the others are numbers."""
    widths = [max(3, *map(len, column)) for column in zip(*lines)]

    def line(cells):
        first, *others = [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(cells, widths))]
        return "| " + " | ".join([first, *others]) + " |"
    rule = "|:" + "-" * widths[0] + "-|" + "|".join("-" + "-" * width + ":" for width in widths[1:]) + "|"
    return "\n".join([line(lines[0]), rule, *map(line, lines[1:])])


def ordered(peers):
    return sorted(peers, key=lambda peer: ORDER.index(peer) if peer in ORDER else len(ORDER))


def table(results, columns):
    peers = ordered(results.peers())
    columns = [(heading, [get(results, peer) for peer in peers]) for heading, get in columns]
    columns = [(heading, cells) for heading, cells in columns if any(cell is not None for cell in cells)]
    rows = [[peer, *(number(cells[i]) for _, cells in columns)] for i, peer in enumerate(peers)
            if any(cells[i] is not None for _, cells in columns)]
    return markdown([["peer", *(heading for heading, _ in columns)], *rows]) if rows else None


def tables(results):
    text = [f"Median of {results.rounds} round{'s' * (results.rounds != 1)}, in turns; ratios inside a round."]
    if results.others() >= 0.1:
        text[0] += f" Other programs kept {results.others():.1f} of {results.about.get('processors', '?')} processors busy."
    for title, columns in TABLES:
        drawn = table(results, columns)
        if drawn:
            text += [f"**{title}**", drawn]
    return "\n\n".join(text)
