"""The results against what vpnlab is to reach (--check)."""

from dataclasses import dataclass
from typing import Callable

from .peers import MINE
from .table import markdown, number


@dataclass
class Target:
    what: str
    measured: Callable  # of the results; None: not measured
    limit: float
    at_most: bool = False
    optional: bool = False  # there may be nothing to compare with

    def met(self, measured):
        return measured <= self.limit if self.at_most else measured >= self.limit

    def says(self):
        return f"{'<=' if self.at_most else '>='} {self.limit:g}"


def against(name, other, peer=MINE):
    """A ratio to another peer, taken inside the rounds."""
    return lambda results: results.ratio(peer, name, other)


def against_own(name, other_name):
    return lambda results: results.ratio(MINE, name, MINE, other_name)


def plainly(name):
    return lambda results: results.median(MINE, name)


def against_best_program(name):
    """The ratio to that of the existing programs to which it is the smallest."""
    def measured(results):
        kinds = results.about.get("kinds", {})
        ratios = [results.ratio(MINE, name, peer) for peer in results.peers() if kinds.get(peer) == "user"]
        return min((ratio for ratio in ratios if ratio is not None), default=None)
    return measured


def both_ways(what, measured, limit, **more):
    return [Target(f"TCP {direction}: {what}", measured(name), limit, **more) for direction, name in (("up", "tcp_gbps"), ("down", "rev_gbps"))]


TARGETS = [
    *both_ways("times cmin", lambda name: against(name, "cmin"), 8),
    *both_ways("times the fastest existing program in user space", against_best_program, 8, optional=True),
    *both_ways("of vxlan", lambda name: against(name, "vxlan"), 0.7),
    *both_ways("of the prototype", lambda name: against(name, "prototype"), 0.95, optional=True),
    Target("TCP up: tunnel's CPU time per byte, of cmin's", against("tcp_cpu_per_gb", "cmin"), 0.09, at_most=True),
    Target("TCP down: tunnel's CPU time per byte, of cmin's", against("rev_cpu_per_gb", "cmin"), 0.09, at_most=True),
    Target("flood of small packets: times cmin", against("flood_kpps", "cmin"), 8),
    Target("small packets without loss: of direct", against("lossfree_kpps", "direct"), 1),
    Target("overload: what still arrives, of the most", plainly("overload_ratio"), 0.8),
    Target("rtt1 p50: of cmin's", against("rtt1_p50_us", "cmin"), 1.1, at_most=True),
    Target("4 flows: Jain's fairness index", plainly("flows_jain"), 0.9),
    Target("100 flows together: of one flow", plainly("flows100_ratio"), 0.8),
    Target("memory of both ends, MB", plainly("rss_mb"), 6, at_most=True),
    Target("ping beside a transfer up: p99, ms", plainly("ping_up_p99_ms"), 5, at_most=True),
    Target("ping beside a transfer down: p99, ms", plainly("ping_down_p99_ms"), 5, at_most=True),
    Target("IPv6 inside and outside, up: of IPv4", against_own("6in6_tcp_gbps", "tcp_gbps"), 0.9),
    Target("IPv6 inside and outside, down: of IPv4", against_own("6in6_rev_gbps", "rev_gbps"), 0.9),
    # As fast, within 3 %: what is measured varies by more than that.
    *[Target(f"one packet a call (--no-offload), {what}: of cmin, 3 % tolerated", against(name, "cmin", "vpnlab-no-offload"), 0.97)
      for what, name in (("TCP up", "tcp_gbps"), ("TCP down", "rev_gbps"), ("flood", "flood_kpps"), ("without loss", "lossfree_kpps"))],
    *[Target(f"steps 2 and 3, one way, {what}: of cmin, 3 % tolerated", against(name, "cmin", "vpnlab-steps"), 0.97)
      for what, name in (("flood", "flood_kpps"), ("without loss", "lossfree_kpps"))],
]
# What has to be measured for them, besides the existing programs that are there.
PEERS = ["direct", "vxlan", "cmin", "vpnlab-steps", "vpnlab-no-offload", "vpnlab"]
TESTS = ["rtt", "tcp", "rev", "pps", "rss", "flows", "ping", "ipv6"]


def judge(results, narrowed):
    """A table of the targets, and whether all are met. What the user has not let measure is no miss (narrowed)."""
    lines, all_met = [["target", "wanted", "measured", ""]], True
    for target in TARGETS:
        measured = target.measured(results)
        if measured is None:
            verdict = "not measured"
            all_met &= narrowed or target.optional
        else:
            met = target.met(measured)
            verdict = "ok" if met else "MISSED"
            all_met &= met
        lines.append([target.what, target.says(), number(measured), verdict])
    return markdown(lines), all_met
