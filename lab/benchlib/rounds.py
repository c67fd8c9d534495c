"""Every round measures every peer once, in random order: what the machine does meanwhile hits all of them."""

import random
import time

from . import processes
from .errors import Failed
from .session import Session
from .tests import possible


def measure(lab, env, peers, tests, pace, rounds, results, say):
    for number in range(rounds):
        for peer in random.sample(peers, len(peers)):
            chosen = [one for one in tests if possible(peer, one)]
            if not chosen:
                if number == 0:
                    say(f"{peer.name} can do none of these tests")
                continue
            started = time.monotonic()
            measure_peer(lab, env, peer, chosen, pace, number, results, say)
            say(f"round {number + 1} of {rounds}: {peer.name} took {time.monotonic() - started:.0f} s")


def measure_peer(lab, env, peer, tests, pace, number, results, say):
    def failed(test, error):
        results.add(number, peer.name, test, {}, str(error))
        say(f"{peer.name}: {test}: {error}")

    try:
        with Session(lab, peer, env, pace) as session:
            results.add(number, peer.name, "others", {"others_processors": others()})
            for one in tests:
                try:
                    values = one.function(session)
                except Failed as error:
                    failed(one.name, f"{error}{session.dead()}")
                    continue
                session.values |= values
                results.add(number, peer.name, one.name, values)
                say(f"{peer.name}: {one.name}: " + " ".join(f"{name} {value:.4g}" for name, value in values.items()))
    except Failed as error:
        failed("up", error)


def others():
    """How many processors other programs keep busy, while we do nothing."""
    seconds = 0.25
    busy = processes.machine_busy_seconds()
    time.sleep(seconds)
    return (processes.machine_busy_seconds() - busy) / seconds
