"""One TCP stream in each direction."""

import json

from ..errors import Failed
from ..processes import machine_busy_seconds
from ..session import IPERF
from . import test


def transfer(session, seconds, down):
    """iperf3 between useru and userv. `-C cubic`, since a machine's own choice may pace."""
    session.server("iperf3", ["iperf3", "-s"], "tcp", IPERF)
    words = ["iperf3", "-c", session.target, "-J", "-C", "cubic", "-t", f"{seconds:g}", *(["-R"] if down else [])]
    tunnel, machine = session.cpu(), machine_busy_seconds()
    try:
        done = session.lab.run("useru", *words, timeout=seconds + 15)
        tunnel, machine = session.cpu() - tunnel, machine_busy_seconds() - machine
        end = json.loads(done.stdout)["end"]
        received = end["sum_received"]
    except (KeyError, ValueError):
        session.forget("iperf3")
        raise Failed(f"iperf3: {error_of(done)}") from None
    except Failed:
        session.forget("iperf3")
        raise
    if end.get("sender_tcp_congestion", "cubic") != "cubic" or received["bytes"] == 0:
        raise Failed("iperf3: nothing arrived, or not by cubic")
    gigabytes = received["bytes"] / 1e9
    return {"gbps": received["bits_per_second"] / 1e9, "cpu_per_gb": tunnel / gigabytes, "sys_per_gb": machine / gigabytes,
            "retransmits": end["sum_sent"].get("retransmits", 0)}


def error_of(done):
    try:
        return json.loads(done.stdout).get("error", "no result")
    except ValueError:
        return (done.stderr or done.stdout).strip() or "no result"


def named(prefix, values):
    return {f"{prefix}_{name}": value for name, value in values.items()}


@test("tcp", "one TCP stream from useru to userv: rate, tunnel's CPU seconds per 10^9 bytes, whole machine's", default=True)
def tcp(session):
    return named("tcp", transfer(session, session.pace.tcp, down=False))


@test("rev", "the same from userv to useru", default=True)
def rev(session):
    return named("rev", transfer(session, session.pace.tcp, down=True))
