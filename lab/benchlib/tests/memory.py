"""Memory of the tunnel's processes, after the tests before it."""

from . import test
from .throughput import transfer


@test("rss", "largest resident sizes of the tunnel's two ends, what their processes share counted once, after the tests before this one", needs="oneway",
      default=True)
def rss(session):
    if "oneway" not in session.peer.can:
        for name, down in ("tcp_gbps", False), ("rev_gbps", True):
            if name not in session.values:
                transfer(session, 1, down)
    return {"rss_mb": session.peak_mb()}
