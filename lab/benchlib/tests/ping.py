"""How long a ping takes beside a transfer at full speed: what waits in the tunnel's queues."""

import re
import time

from ..errors import Failed
from ..session import IPERF, USERV
from . import test

INTERVAL = 0.01


@test("ping", "ping every 10 ms beside a TCP transfer at full speed, up and down: p50, p99, max, and what is lost")
def ping(session):
    values = {}
    for name, direction in ("up", []), ("down", ["-R"]):
        values |= {f"ping_{name}_{key}": value for key, value in beside(session, direction).items()}
    return values


def beside(session, direction):
    session.server("iperf3", ["iperf3", "-s"], "tcp", IPERF)
    seconds = session.pace.ping
    load = session.lab.start("useru", "iperf3", "-c", USERV, "-C", "cubic", "-t", f"{seconds + 4:g}", *direction)
    time.sleep(0.5)
    try:
        count = round(seconds / INTERVAL)
        output = session.lab.run("useru", "ping", "-n", "-i", INTERVAL, "-c", count, "-W1", USERV, timeout=seconds + 15).stdout
        if load.process.poll() is not None:
            raise Failed("iperf3 ended too early")
    finally:
        load.end()
        session.forget("iperf3")
    times = sorted(map(float, re.findall(r"time=([\d.]+) ms", output)))
    if not times:
        raise Failed("beside a transfer no ping is answered")
    return {"p50_ms": quantile(times, 0.5), "p99_ms": quantile(times, 0.99), "max_ms": times[-1], "lost_percent": 100 * (1 - len(times) / count)}


def quantile(values, part):
    """The smallest value that at least this part of all is not above."""
    return values[min(len(values) - 1, max(0, -int(-part * len(values) // 1) - 1))]
