"""Many tunnels at once."""

from . import test
from .flows import jain, transfer

NUMBERS = 1, 2, 4, 8, 16


@test("scale-clients", "1, 2, 4, 8, 16 tunnels at once, each a client with a server of its own and one TCP connection: total rate, "
      "tunnel's CPU seconds per 10^9 bytes, fairness, memory", needs="clients")
def scale_clients(session):
    values = {}
    for number in NUMBERS:
        addresses = session.up(clients=number)
        rates, cpu = transfer(session, 1, session.pace.many, addresses)
        values |= {f"clients_{number}_gbps": sum(rates) / 1e9, f"clients_{number}_cpu_per_gb": cpu, f"clients_{number}_jain": jain(rates),
                   f"clients_{number}_rss_mb": session.peak_mb()}
    return values
