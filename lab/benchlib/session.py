"""A peer in a lab of its own, and what the tests need beside it."""

import os
import subprocess
import time

from . import processes
from .errors import Failed

USERV = "10.1.1.2"
IPERF, SINK, SOCKPERF, FLOWS = 5201, 7001, 7002, 7003  # ports on userv


class Session:
    def __init__(self, lab, peer, env, pace):
        self.lab, self.peer, self.env, self.pace = lab, peer, env, pace
        self.state = env["STATE"]
        self.programs = {}
        self.is_up = False
        self.values = {}  # what the tests before this one have measured

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_):
        self.down()

    def up(self, inner=4, outer=4, clients=1):
        """Brings lab and tunnel up, until packets pass; the addresses of userv, one for each of the tunnels."""
        self.down()
        self.is_up = True
        self.target = USERV if inner == 4 else "fd00:1::2"
        self.lab.up()
        self.configure(inner, outer, clients)
        env = {**self.env, "INNER": str(inner), "OUTER": str(outer), "CLIENTS": str(clients)}
        code, output = self.peer.call("up", env)
        if code != 0:
            raise Failed(f"it does not come up: {output}{self.last_words()}")
        targets = [f"10.1.1.{100 + i}" for i in range(clients)] if clients > 1 else [self.target]
        self.wait_for_packets(targets)
        return targets

    def configure(self, inner, outer, clients):
        """What is not in the handout's network: see the comments."""
        on = {"useru": [], "server": [], "userv": [
            "ip route add 10.1.2.0/24 via 10.1.1.4",  # the way back without a tunnel
            # Pieces of packets whose other pieces are lost must not be in the way of the next test's.
            "sysctl -qw net.ipv4.ipfrag_time=1 net.ipv4.ipfrag_high_thresh=268435456",
        ]}
        for commands in on.values():
            # A connection whose tunnel has ended before it must not keep the namespace until it gives up.
            commands.append("sysctl -qw net.ipv4.tcp_orphan_retries=1")
        if (inner, outer) == (4, 4):
            for commands in on.values():  # no packets but the test's
                commands.append("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
        else:
            on["useru"] += ["ip address add fd00:2::2/64 dev eth0 nodad"]
            on["server"] += ["ip address add fd00:2::3/64 dev eth0 nodad", "ip address add fd00:1::4/64 dev eth1 nodad",
                             "sysctl -qw net.ipv6.conf.all.forwarding=1"]
            on["userv"] += ["ip address add fd00:1::2/64 dev eth0 nodad", "ip route add fd00:2::/31 via fd00:1::4"]
        for i in range(clients if clients > 1 else 0):
            on["userv"] += [f"ip address add 10.1.1.{100 + i}/24 dev eth0", f"ip route add 10.1.{100 + i}.0/24 via 10.1.1.4"]
        for host, commands in on.items():
            self.lab.check(host, "sh", "-ec", "\n".join(commands))

    def wait_for_packets(self, targets):
        deadline = time.monotonic() + 15
        for target in targets:
            while not self.passes(target):
                if time.monotonic() > deadline:
                    raise Failed(f"no packet reaches {target}{self.last_words()}")

    def passes(self, target):
        if "oneway" in self.peer.can:
            return self.burst(1000, 0.01)[0] > 0
        return self.lab.run("useru", "ping", "-c1", "-W1", "-q", target).returncode == 0

    def last_words(self):
        """The last line of each of the tunnel's logs, for a message."""
        words = ""
        for _pid, name in self.spawned():
            with open(os.path.join(self.state, f"{name}.log"), errors="replace") as file:
                lines = file.read().strip().splitlines()
            words += f"; {name}: {lines[-1]}" if lines else ""
        return words

    def spawned(self):
        try:
            with open(os.path.join(self.state, "spawned")) as file:
                return [(int(pid), name) for pid, name in (line.split() for line in file)]
        except FileNotFoundError:
            return []

    def down(self):
        if not self.is_up:
            return
        for program in self.programs.values():
            program.end()
        self.programs.clear()
        self.peer.call("down", self.env)
        self.lab.down()
        self.is_up = False
        if os.path.exists(os.path.join(self.state, "spawned")):
            os.remove(os.path.join(self.state, "spawned"))

    # What the tests ask for.

    def pids(self):
        """The tunnel's processes, both ends."""
        return [pid for waiting, _name in self.spawned() for pid in processes.descendants(waiting)]

    def peak_mb(self):
        """The largest resident sizes that the tunnel's ends ever had."""
        return sum(processes.peak_mb(processes.descendants(waiting)) for waiting, _name in self.spawned())

    def dead(self):
        """What to say about ends of the tunnel that are not running any more."""
        names = [name for waiting, name in self.spawned() if not processes.descendants(waiting)]
        return f"; not running any more: {', '.join(names)}{self.last_words()}" if names else ""

    def cpu(self):
        return processes.cpu_seconds(self.pids())

    def tool(self, name):
        """One of our own programs in C."""
        return os.path.join(self.state, name)

    def server(self, name, words, protocol, port, **pipes):
        """A program on userv that serves one or more tests."""
        if name in self.programs and self.programs[name].process.poll() is not None:
            self.programs.pop(name).end()
        if name not in self.programs:
            self.programs[name] = self.lab.start("userv", *words, **pipes)
            self.programs[name].wait_listening(protocol, port)
        return self.programs[name]

    def forget(self, name):
        """Ends a program on userv which may be in a bad state."""
        if name in self.programs:
            self.programs.pop(name).end()

    def received(self):
        """How many packets userv's sink has counted since it was asked last."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        sink = self.server("sink", [self.tool("pps"), "recv", SINK], "udp", SINK, **pipes).process
        try:
            sink.stdin.write("\n")
            sink.stdin.flush()
            return int(sink.stdout.readline())
        except (OSError, ValueError):
            raise Failed("the sink on userv has ended") from None

    def burst(self, rate, seconds, size=64):
        """Sends UDP datagrams to userv (rate 0: as fast as possible): how many arrived and were sent, in which time."""
        self.received()
        sent, passed = self.lab.check("useru", self.tool("pps"), "send", USERV, SINK, size, rate, seconds).split()
        time.sleep(0.15)  # for what is in the queues
        return self.received(), int(sent), float(passed)
