"""The options, and what follows from them."""

import argparse
import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from . import peers as peer_scripts
from .errors import UsageError
from .lab import Lab
from .results import Results
from .rounds import measure
from .table import tables
from .tests import TESTS

HERE = os.path.dirname(os.path.realpath(__file__))
TOOLS = {"iperf3": "iperf3", "sockperf": "sockperf", "ping": "iputils-ping", "ip": "iproute2", "taskset": "util-linux", "gcc": "gcc",
         "sysctl": "procps"}


@dataclass
class Pace:
    """How long things are measured, in seconds."""
    tcp: float = 3
    flood: float = 1.5
    search: float = 0.5
    rtt: int = 2
    flows: float = 10
    many: float = 3
    ping: float = 3
    sizes: float = 0.4


QUICK = Pace(tcp=1, flood=0.4, search=0.1, rtt=1, flows=2, many=1, ping=1, sizes=0.15)


def say(text):
    print(f"lab/bench: {text}", file=sys.stderr, flush=True)


def parse(words):
    tests = "\n".join(f"  {one.name:<14} {'' if one.default else '(not by default) '}{one.help}" for one in TESTS.values())
    parser = argparse.ArgumentParser(
        prog="lab/bench", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compares IP-over-UDP tunnels in vpnlab's own lab. Every round measures every peer once, in random order, each in a\n"
        "lab brought up for it; the table has medians, and ratios are taken inside a round. Works as root and as a plain user.",
        epilog=f"tests, in the order in which they are done:\n{tests}")
    add = parser.add_argument
    add("--vpnlab", metavar="PROGRAM", default=os.path.join(HERE, "..", "..", "target", "release", "vpnlab"),
        help="the vpnlab to measure, which also makes the lab (default: target/release/vpnlab)")
    add("--peers", metavar="LIST", help="peers to measure, by commas (default: all whose programs are there; see --list)")
    add("--extra-peers", metavar="DIR", action="append", default=[], help="more peers' scripts; lab/benchlib/peer.sh says how they look")
    add("--tests", metavar="LIST", help="tests to do, by commas (default: those below without a remark)")
    add("-n", "--rounds", type=int, default=3, metavar="N", help="how often each peer is measured (default 3)")
    add("-t", "--seconds", type=float, metavar="S", help="seconds of each TCP transfer (default 3)")
    add("--quick", action="store_true", help="one round and short measurements: to see that it works, not for numbers")
    add("--lab-name", default="bench", metavar="NAME", help="the lab's name (default bench); another one lets two benches live side by side")
    add("--out", metavar="FILE", help="write every measurement to FILE, as JSON lines")
    add("--list", action="store_true", help="list the peers, and what is missing for them")
    arguments = parser.parse_args(words)
    if arguments.rounds < 1 or (arguments.seconds or 1) <= 0:
        parser.error("a number that is too small")
    return arguments


def chosen_tests(text):
    if text is None:
        return [one for one in TESTS.values() if one.default]
    names = text.split(",")
    for name in names:
        if name not in TESTS:
            raise UsageError(f"there is no test {name}; there are: {', '.join(TESTS)}")
    if "ipv6" in names:
        names += ["tcp", "rev"]  # which it is compared with
    return [one for one in TESTS.values() if one.name in names]


def find_vpnlab(path):
    found = shutil.which(path)
    if not found:
        raise UsageError(f"there is no {os.path.normpath(path)}; build it: cargo build --release")
    return os.path.realpath(found)


def build_tools(state):
    missing = [f"{name} (package {package})" for name, package in TOOLS.items() if not shutil.which(name)]
    if missing:
        raise UsageError(f"missing: {', '.join(missing)}")
    for name in "pps", "flows", "cmin":
        source = os.path.join(peer_scripts.PEERS, f"{name}.c")
        done = subprocess.run(["gcc", "-O2", "-Wall", "-pthread", "-o", os.path.join(state, name), source], capture_output=True, text=True)
        if done.returncode != 0:
            raise UsageError(f"gcc {name}.c: {done.stderr.strip()}")


def describe(arguments, pace):
    return {"when": time.strftime("%Y-%m-%d %H:%M"), "kernel": platform.release(), "processors": len(os.sched_getaffinity(0)),
            "vpnlab": arguments.vpnlab, "pace": vars(pace)}


@contextlib.contextmanager
def running_lab(vpnlab, name):
    """The lab's name for us: whatever happens, nothing is left."""
    lab = Lab(vpnlab, name)
    status = lab.call("exec", "useru", "--", "true")
    if status.returncode == 0:
        raise UsageError(f"a lab {name} is up already: another bench? Take another --lab-name, or: vpnlab lab --lab {name} down")
    try:
        yield lab
    finally:
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            signal.signal(number, signal.SIG_IGN)
        lab.down()


def run(arguments, results):
    pace = QUICK if arguments.quick else Pace()
    if arguments.seconds:
        pace.tcp = arguments.seconds
    rounds = 1 if arguments.quick else arguments.rounds
    with tempfile.TemporaryDirectory(prefix="vpnlab-bench-") as state:
        os.chmod(state, 0o755)  # openvpn and others give up root
        env = peer_scripts.environment(arguments.vpnlab, arguments.lab_name, state)
        peers = peer_scripts.find(arguments.extra_peers, env)
        if arguments.list:
            for peer in peers.values():
                print(f"{peer.name:<18} {peer.about}" + (f"\n{'':<18} missing: {peer.missing}" if peer.missing else ""))
            return
        tests = chosen_tests(arguments.tests)
        peers = peer_scripts.select(peers, arguments.peers and arguments.peers.split(","), say)
        build_tools(state)
        results.describe(describe(arguments, pace))
        with running_lab(arguments.vpnlab, arguments.lab_name) as lab:
            measure(lab, env, peers, tests, pace, rounds, results, say)


def interrupted(number, _frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def main():
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    os.environ.pop("VPNLAB_TOPOLOGY", None)  # the network is the handout's
    arguments = parse(sys.argv[1:])
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, interrupted)
    code = 0
    try:
        arguments.vpnlab = find_vpnlab(arguments.vpnlab)
        results = Results(arguments.out)
        try:
            run(arguments, results)
        except KeyboardInterrupt:
            say("interrupted" + ("; what was measured until now:" if results.records else ""))
            code = 130
        if results.records:
            print(tables(results))
    except UsageError as error:
        say(error)
        return 2
    return code
