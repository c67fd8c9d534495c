"""What a tree of processes used, and on which processors it may run."""

import os
import select
import time


def children(pid):
    """The processes that this one started and that are alive."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        pass  # it has ended
    return found


def descendants(pid):
    """All processes below this one, without itself."""
    below = children(pid)
    for child in below:
        below += children(child)  # which the loop then visits, too
    return below


def cpu_seconds(pids):
    """Processor time that these processes have used, user and system, all threads."""
    return sum(cpu_clock(pid) for pid in pids)


def cpu_clock(pid):
    try:
        return time.clock_gettime(~pid << 3 | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel
    except OSError:
        return 0.0  # it has ended


def machine_busy_seconds():
    """Processor time of the whole machine that was neither idle nor waiting for a disk."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def peak_mb(pids):
    """The largest resident size that these processes of one end ever had together, what they share counted once: that of the
    largest one, and what the others have for themselves; or that of another at its start, if that was more."""
    sizes = [size for size in map(memory, pids) if size]
    if not sizes:
        return 0.0  # they have ended
    largest = max(sizes, key=lambda size: size["VmRSS"])
    others = sum(size["Private_Clean"] + size["Private_Dirty"] for size in sizes if size is not largest)
    return max(largest["VmHWM"] + others, *(size["VmHWM"] for size in sizes)) / 1024


def memory(pid):
    """What the kernel says of a process's memory, in kB; None, if it has ended."""
    sizes = {}
    try:
        for name in "status", "smaps_rollup":
            with open(f"/proc/{pid}/{name}") as file:
                words = [line.split() for line in file if line.endswith("kB\n")]
            sizes |= {line[0].rstrip(":"): int(line[1]) for line in words}
    except OSError:
        return None
    return sizes


def pin(pids, processors):
    """Lets these processes, all threads, run on these processors only."""
    for pid in pids:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), processors)
        except OSError:
            pass  # it has ended


def listens(pid, protocol, port):
    """Whether somebody in this process's network namespace is bound to this port (a TCP one: listens)."""
    states = {"tcp": "0A", "udp": "07"}
    for name in protocol, protocol + "6":
        try:
            with open(f"/proc/{pid}/net/{name}") as file:
                sockets = [line.split() for line in file][1:]
        except OSError:
            continue
        if any(int(words[1].rsplit(":", 1)[1], 16) == port and words[3] == states[protocol] for words in sockets):
            return True
    return False


def wait_readable(pipe, seconds):
    """Whether there is something to read within this time."""
    return bool(select.select([pipe], [], [], seconds)[0])
