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
import textwrap
import time
from dataclasses import dataclass, replace

from . import peers as peer_scripts
from . import setup, targets
from .charts import draw
from .errors import UsageError
from .lab import Lab
from .results import Results
from .rounds import measure
from .table import tables
from .tests import TESTS

HERE = os.path.dirname(os.path.realpath(__file__))


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
    tests = "\n".join(textwrap.fill(f"{one.name:<15}{'' if one.default else '(not by default) '}{one.help}", 110, initial_indent="  ",
                                    subsequent_indent=" " * 17) for one in TESTS.values())
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
    add("--from", metavar="FILE", dest="sources", action="append", default=[],
        help="measure nothing; take what --out has written, also from several files")
    add("--svg", metavar="DIR", help="write charts of what was measured into DIR")
    add("--check", action="store_true", help="judge vpnlab by its targets: exit code 1 if one is missed; chooses peers and tests for that")
    add("--setup", action="store_true", help="install the Debian packages that are missing, by apt-get, and end")
    add("--list", action="store_true", help="list the peers, and what is missing for them")
    arguments = parser.parse_args(words)
    if arguments.rounds < 1:
        parser.error("--rounds has to be 1 or more")
    if arguments.seconds is not None and not 0.5 <= arguments.seconds <= 3600:
        parser.error("--seconds has to be between 0.5 and 3600")
    return arguments


def chosen_tests(text, check):
    if text is None:
        return [one for one in TESTS.values() if (one.name in targets.TESTS if check else one.default)]
    names = text.split(",")
    for name in names:
        if name not in TESTS:
            raise UsageError(f"there is no test {name}; there are: {', '.join(TESTS)}")
    if "ipv6" in names:
        names += ["tcp", "rev"]  # which it is compared with
    return [one for one in TESTS.values() if one.name in names]


def chosen_peers(arguments, peers):
    if arguments.peers is None and arguments.check:
        peers = {name: peer for name, peer in peers.items() if name in targets.PEERS or peer.kind == "user" or name == "prototype"}
    return peer_scripts.select(peers, arguments.peers and arguments.peers.split(","), say)


def find_vpnlab(path):
    found = shutil.which(path)
    if not found:
        raise UsageError(f"there is no {os.path.normpath(path)}; build it: cargo build --release")
    return os.path.realpath(found)


def build_tools(state):
    setup.require_tools()
    for name in "pps", "flows", "cmin":
        source = os.path.join(peer_scripts.PEERS, f"{name}.c")
        done = subprocess.run(["gcc", "-O2", "-Wall", "-pthread", "-o", os.path.join(state, name), source], capture_output=True, text=True)
        if done.returncode != 0:
            raise UsageError(f"gcc {name}.c: {done.stderr.strip()}")


def describe(arguments, pace, peers):
    return {"when": time.strftime("%Y-%m-%d %H:%M"), "kernel": platform.release(), "processors": len(os.sched_getaffinity(0)),
            "pace": vars(pace), "kinds": {peer.name: peer.kind for peer in peers}}


@contextlib.contextmanager
def running_lab(vpnlab, name):
    """The lab's name for us: whatever happens, nothing is left."""
    lab = Lab(vpnlab, name)
    try:
        yield lab
    finally:
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            signal.signal(number, signal.SIG_IGN)
        lab.down()


def run(arguments, results):
    pace = QUICK if arguments.quick else Pace()
    if arguments.seconds:
        pace = replace(pace, tcp=arguments.seconds)
    rounds = 1 if arguments.quick else arguments.rounds
    with tempfile.TemporaryDirectory(prefix="vpnlab-bench-") as state:
        os.chmod(state, 0o755)  # openvpn and others give up root
        env = peer_scripts.environment(arguments.vpnlab, arguments.lab_name, state)
        peers = peer_scripts.find(arguments.extra_peers, env)
        tests = chosen_tests(arguments.tests, arguments.check)
        peers = chosen_peers(arguments, peers)
        build_tools(state)
        results.open(arguments.out, describe(arguments, pace, peers))
        with running_lab(arguments.vpnlab, arguments.lab_name) as lab:
            measure(lab, env, peers, tests, pace, rounds, results, say)


def list_peers(arguments):
    with tempfile.TemporaryDirectory() as state:
        peers = peer_scripts.find(arguments.extra_peers, peer_scripts.environment(arguments.vpnlab, arguments.lab_name, state))
    for peer in peers.values():
        print(f"{peer.name:<18} {peer.about}" + (f"\n{'':<18} missing: {peer.missing}" if peer.missing else ""))


def report(arguments, results):
    """Tables, charts, targets; the exit code."""
    if arguments.sources and arguments.peers:
        results.only(arguments.peers.split(","))
    if not results.records:
        return 0
    print(tables(results))
    if arguments.svg:
        draw(results, arguments.svg, say)
    if arguments.check:
        verdicts, met = targets.judge(results, narrowed=bool(arguments.peers or arguments.tests))
        print(f"\n**Targets**\n\n{verdicts}")
        return 0 if met else 1
    if not arguments.sources and results.failures():
        say(f"{results.failures()} tests failed: see above")
        return 1
    return 0


def interrupted(number, _frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def main():
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    os.environ.pop("VPNLAB_TOPOLOGY", None)  # the network is the handout's
    arguments = parse(sys.argv[1:])
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, interrupted)
    results = Results()
    try:
        if arguments.setup:
            setup.install(say)
            return 0
        if arguments.sources:
            for path in arguments.sources:
                results.load(path)
            return report(arguments, results)
        arguments.vpnlab = find_vpnlab(arguments.vpnlab)
        if arguments.list:
            list_peers(arguments)
            return 0
        try:
            run(arguments, results)
        except KeyboardInterrupt:
            say("interrupted" + ("; what was measured until now:" if results.records else ""))
            report(arguments, results)
            return 130
        return report(arguments, results)
    except UsageError as error:
        say(error)
        return 2
