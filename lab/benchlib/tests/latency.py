"""How long a small packet takes, there and back, through an idle tunnel."""

import os
import re

from ..errors import Failed
from ..processes import pin
from ..session import SOCKPERF, USERV
from . import test


@test("rtt", "sockperf ping-pong: rtt1 with the tunnel and both ends on one processor (length of the path, without wakeups "
      "across processors, which cost most and vary), rtt as scheduled", default=True)
def rtt(session):
    server = session.server("sockperf", ["sockperf", "server", "-i", USERV, "-p", SOCKPERF], "udp", SOCKPERF)
    values = ping_pong(session, "rtt", [])
    everywhere = os.sched_getaffinity(0)
    one = {max(everywhere)}
    pids = session.pids() + server.pids()
    pin(pids, one)
    try:
        values |= ping_pong(session, "rtt1", ["taskset", "-c", *one])
    finally:
        pin(pids, everywhere)
    return values


def ping_pong(session, name, prefix):
    seconds = session.pace.rtt
    output = session.lab.check("useru", *prefix, "sockperf", "ping-pong", "-i", USERV, "-p", SOCKPERF, "-t", seconds, "-m", 64,
                               "--full-rtt", timeout=seconds + 15)
    found = dict(re.findall(r"percentile (\d+\.\d+) *= *([\d.]+)", output))
    if "50.000" not in found:
        raise Failed("sockperf: no answers")
    return {f"{name}_p50_us": float(found["50.000"]), f"{name}_p99_us": float(found["99.000"])}
