"""A lab of vpnlab's, and programs on its hosts."""

import os
import subprocess
import time

from . import processes
from .errors import Failed, UsageError


class Lab:
    """`vpnlab lab`, brought up anew for each measurement, so that nothing of the one before is left."""

    def __init__(self, vpnlab, name):
        self.vpnlab = vpnlab
        self.name = name
        self.ours = False  # somebody else's lab of this name must not be ended

    def call(self, *words):
        command = [self.vpnlab, "lab", "--lab", self.name, "-q", *words]
        # A session of its own: Ctrl-C is for us to handle, and must not stop the lab's own end.
        try:
            return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, start_new_session=True)
        except subprocess.TimeoutExpired:
            raise UsageError(f"{' '.join(command)} did not end in 60 s") from None

    def up(self):
        # Step 4: the server forwards, and userv and userw know the way back to the tunnel.
        self.ours = True
        done = self.call("up", "--step", "4", "--owner", str(os.getpid()))
        if done.returncode != 0:
            self.ours = False
            raise UsageError(f"the lab {self.name} does not come up (another bench? take another --lab-name):\n{done.stderr.strip()}")

    def down(self):
        if not self.ours:
            return
        self.ours = False
        done = self.call("down")
        if done.returncode != 0:
            raise UsageError(f"the lab {self.name} does not go down:\n{done.stderr.strip()}")

    def command(self, host, *words):
        return [self.vpnlab, "lab", "--lab", self.name, "-q", "exec", host, "--", *map(str, words)]

    def run(self, host, *words, timeout=20):
        """Runs a command on a host to its end."""
        try:
            return subprocess.run(self.command(host, *words), capture_output=True, text=True, timeout=timeout,
                                  stdin=subprocess.DEVNULL, start_new_session=True)
        except subprocess.TimeoutExpired:
            raise Failed(f"{words[0]} on {host} did not end in {timeout:g} s") from None

    def check(self, host, *words, timeout=20):
        """Runs a command on a host that has to succeed; its output."""
        done = self.run(host, *words, timeout=timeout)
        if done.returncode != 0:
            raise Failed(f"{' '.join(map(str, words))} on {host}: {(done.stderr or done.stdout).strip()[-300:]}")
        return done.stdout

    def start(self, host, *words, **pipes):
        return Program(self, host, words, pipes)


class Program:
    """A program that runs on a host until it is ended."""

    def __init__(self, lab, host, words, pipes):
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.words = words
        self.process = subprocess.Popen(lab.command(host, *words), text=True, start_new_session=True, **{**quiet, **pipes})

    def pids(self):
        """The program and all below it; not the `lab exec` that waits for it."""
        return processes.descendants(self.process.pid)

    def wait_listening(self, protocol, port):
        deadline = time.monotonic() + 10
        while not any(processes.listens(pid, protocol, port) for pid in self.pids()[:1]):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{self.words[0]} does not listen on port {port}")
            time.sleep(0.01)

    def end(self):
        self.process.terminate()  # which `lab exec` passes on
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()  # it takes the program with it
            self.process.wait()
        for pipe in self.process.stdin, self.process.stdout:
            if pipe:
                pipe.close()
