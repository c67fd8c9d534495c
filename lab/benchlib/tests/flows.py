"""Many TCP connections at once."""

import subprocess

from .. import processes
from ..errors import Failed
from ..session import FLOWS, USERV
from . import test

NUMBERS = 1, 4, 16, 64, 256, 1000


def transfer(session, number, seconds, addresses=(USERV,)):
    """`number` TCP connections to each address at once: the rate of each in bit/s, the tunnel's CPU seconds per 10^9 bytes."""
    tool = session.tool("flows")
    receiver = session.lab.start("userv", tool, "recv", FLOWS, number * len(addresses), seconds, stdout=subprocess.PIPE)
    sender = None
    try:
        receiver.wait_listening("tcp", FLOWS)
        sender = session.lab.start("useru", tool, "send", FLOWS, number, *addresses)
        pids = session.pids()
        if not processes.wait_readable(receiver.process.stdout, 20):
            raise Failed(f"{number * len(addresses)} TCP connections are not made in 20 s")
        receiver.process.stdout.readline()  # the connections have found their rates, and it begins to count
        cpu = processes.cpu_seconds(pids)
        output, _ = receiver.process.communicate(timeout=seconds + 15)
        cpu = processes.cpu_seconds(pids) - cpu
    except subprocess.TimeoutExpired:
        raise Failed("TCP connections: no result") from None
    finally:
        receiver.end()
        if sender:
            sender.end()
    rates = list(map(float, output.split()))
    if sum(rates) == 0:
        raise Failed(f"over {len(rates)} TCP connections nothing arrives")
    return rates, cpu / (sum(rates) * seconds / 8 / 1e9)


def jain(rates):
    """Jain's fairness index: 1 if all are equal, 1/n if one has all."""
    return sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates))


@test("flows", "4 TCP connections: Jain's fairness index; what 100 connections bring together, of what one brings")
def flows(session):
    pace = session.pace
    four, _ = transfer(session, 4, pace.flows)
    one, _ = transfer(session, 1, pace.many)
    hundred, _ = transfer(session, 100, pace.many)
    return {"flows_jain": jain(four), "flows1_gbps": sum(one) / 1e9, "flows4_gbps": sum(four) / 1e9, "flows100_gbps": sum(hundred) / 1e9,
            "flows100_ratio": sum(hundred) / sum(one)}


@test("scale-flows", "1, 4, 16, 64, 256, 1000 TCP connections at once: total rate, tunnel's CPU seconds per 10^9 bytes")
def scale_flows(session):
    values = {}
    for number in NUMBERS:
        rates, cpu = transfer(session, number, session.pace.many)
        values[f"scale_{number}_gbps"] = sum(rates) / 1e9
        values[f"scale_{number}_cpu_per_gb"] = cpu
    return values
