"""lab/bench in parts.

cli       the options, and what follows from them
rounds    every round measures every peer once
lab       a lab, and programs on its hosts
processes what a tree of processes used; where it may run
peers     the tunnels that are compared, from lab/peers/*.sh; peer.sh is what those source
session   a peer in a lab of its own, and what the tests need beside it
tests     the tests, one function each, by subject
results   every measurement, as JSON lines; medians and ratios
table     the results as markdown
charts    the results as SVG, drawn by svg
targets   the results against the targets (--check)
setup     the Debian packages (--setup)
"""
