"""The same TCP transfers with IPv6."""

from . import test
from .throughput import transfer


@test("ipv6", "tcp and rev with IPv6 inside and outside (6in6), and with IPv6 inside IPv4 (6in4); does tcp and rev before, to compare",
      needs="6in6")
def ipv6(session):
    values = {}
    for name, outer in ("6in6", 6), ("6in4", 4):
        if name in session.peer.can:
            session.up(inner=6, outer=outer)
            for direction, down in ("tcp", False), ("rev", True):
                values[f"{name}_{direction}_gbps"] = transfer(session, session.pace.tcp, down)["gbps"]
    return values
