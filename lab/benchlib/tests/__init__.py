"""The tests: each is a function that takes a session, and answers with what it measured, by name."""

from dataclasses import dataclass
from typing import Callable


@dataclass
class Test:
    name: str
    help: str
    needs: str  # what a peer must be able to do: "" (a way back), "oneway" (nothing), or one of its CAN
    default: bool
    function: Callable


TESTS = {}


def test(name, about, needs="", default=False):
    def register(function):
        TESTS[name] = Test(name, about, needs, default, function)
        return function
    return register


def possible(peer, one):
    """Whether this peer can do this test."""
    if one.needs == "oneway":
        return True
    return "oneway" not in peer.can and (not one.needs or one.needs in peer.can)


# In the order in which they are done; those that bring the tunnel up in another way come last.
from . import latency, throughput, packets, memory, flows, ping, sizes, ipv6, clients  # noqa: E402, F401
