"""UDP datagrams of all sizes, without loss."""

from . import test
from .packets import LOSS

# Payload in bytes; 1392 is the last one that no peer has to fragment, and 65507 the largest there is.
SIZES = 64, 128, 256, 512, 1024, 1392, 4096, 16384, 65507


@test("sizes", "UDP datagrams from 64 bytes to 64 KiB of payload: most that passes with at most 0.5 % loss, tunnel's CPU per datagram",
      needs="oneway")
def sizes(session):
    values = {}
    for size in SIZES:
        rate, cpu = fastest(session, size)
        values[f"size_{size}_gbps"] = rate * size * 8 / 1e9
        values[f"size_{size}_kpps"] = rate / 1e3
        values[f"size_{size}_cpu_us"] = cpu * 1e6
    return values


def fastest(session, size):
    """The highest rate without loss, searched around what arrives of a flood, and the CPU time of each datagram."""
    seconds = session.pace.sizes
    got, _, passed = session.burst(0, seconds, size)
    rate, low, high, cpu_per_datagram = max(got / passed, 100), 0, None, 0
    for _ in range(10):
        cpu = session.cpu()
        got, sent, passed = session.burst(rate, seconds, size)
        if sent and got >= sent * (1 - LOSS):
            if got / passed > low:
                low, cpu_per_datagram = got / passed, (session.cpu() - cpu) / got
            if sent < rate * passed * 0.9:
                break  # useru cannot send more
        else:
            high = rate
        if low and high and high / low < 1.15:
            break
        rate = (low + high) / 2 if low and high else rate * 1.5 if low else rate / 2
    return low, cpu_per_datagram
