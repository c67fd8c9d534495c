"""UDP datagrams of all sizes, without loss."""

from . import test
from .packets import LOSS

# Payload in bytes: 1392 is the last one that no peer has to fragment, and 65507 the largest there is.
SIZES = 64, 128, 256, 512, 1024, 1392, 4096, 16384, 65507
PIECE = 1424  # about what of a larger one is in each of its fragments


@test("sizes", "UDP datagrams from 64 bytes to 64 KiB of payload: most that passes with at most 0.5 % loss, tunnel's CPU per datagram",
      needs="oneway")
def sizes(session):
    values = {}
    packets = session.values.get("lossfree_kpps", 40) * 1e3  # to begin with
    for size in SIZES:
        pieces = -(-size // PIECE)
        rate, cpu = fastest(session, size, packets / pieces)
        values[f"size_{size}_gbps"] = rate * size * 8 / 1e9
        values[f"size_{size}_kpps"] = rate / 1e3
        values[f"size_{size}_cpu_us"] = cpu * 1e6
        packets = max(rate * pieces, 1000)
    return values


def fastest(session, size, rate):
    """The highest rate without loss, searched around this rate, and the CPU time of each datagram."""
    low, high, cpu_per_datagram = 0, None, 0
    for _ in range(12):
        for _ in range(2):  # what else the machine does must not decide
            cpu = session.cpu()
            got, sent, passed = session.burst(rate, session.pace.sizes, size)
            without_loss = sent and got >= sent * (1 - LOSS)
            if without_loss:
                break
        if without_loss and got / passed > low:
            low, cpu_per_datagram = got / passed, (session.cpu() - cpu) / got
        if without_loss and sent < rate * passed * 0.9:
            break  # useru cannot send more
        if not without_loss:
            high = rate
        if low and high and high / low < 1.15:
            break
        rate = (low + high) / 2 if low and high else rate * 1.5 if low else rate / 2
    return low, cpu_per_datagram
