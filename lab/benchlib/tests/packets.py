"""Small packets: how many arrive, without loss and when too many are sent."""

import time

from ..errors import Failed
from . import test

LOSS = 0.005  # what still counts as loss-free
OVERLOADS = 1, 1.5, 2, 3, 4


@test("pps", "64-byte UDP from useru to userv: flood (sent as fast as possible, what arrives, CPU per packet), lossfree (highest rate "
      "with at most 0.5 % loss), overload (what arrives at the highest rate offered, of the most that ever arrived)",
      needs="oneway", default=True)
def pps(session):
    cpu = session.cpu()
    flood = session.burst(0, session.pace.flood)
    cpu = session.cpu() - cpu
    got, _sent, seconds = flood
    if not got:
        raise Failed("of a flood nothing arrives")
    lossfree = search(session, 64, 4000)
    return {"flood_kpps": got / seconds / 1e3, "flood_cpu_us_per_pkt": cpu / got * 1e6, "lossfree_kpps": lossfree / 1e3,
            **overload(session, max(lossfree, got / seconds), flood)}


def passes(session, rate, seconds, size):
    """Whether packets at this rate arrive without loss; at a second try, too: what else the machine does must not decide."""
    for _ in range(2):
        got, sent, passed = session.burst(rate, seconds, size)
        if sent and got >= sent * (1 - LOSS) and sent >= rate * passed * 0.9:
            return got / passed
        time.sleep(0.05)
    return None


def search(session, size, rate):
    """The highest rate without loss: doubled until it fails, then bisected."""
    low, high = 0, None
    for _ in range(14):
        arrived = passes(session, rate, session.pace.search, size)
        if arrived:
            low = max(low, arrived)
        else:
            high = rate
        if high is None:
            rate *= 2
        elif low and high / low < 1.06:
            break
        else:
            rate = (low + high) / 2 if low else high / 2
    return low


def overload(session, peak, flood):
    """What arrives when more is offered than can pass: a good tunnel still carries what it can."""
    values, bursts = {}, [flood]
    for times in OVERLOADS:
        got, sent, seconds = session.burst(peak * times, session.pace.search)
        bursts.append((got, sent, seconds))
        values[f"overload_{times:g}x_kpps"] = got / seconds / 1e3
        if sent < peak * times * seconds * 0.9:
            break  # useru cannot send more
    loads = [(sent / seconds, got / seconds) for got, sent, seconds in bursts]
    arrived_at_highest = max(loads)[1]
    return {**values, "overload_ratio": arrived_at_highest / max(arrived for _, arrived in loads)}
