"""Every measurement, as JSON lines in a file; medians and ratios of them."""

import json
import statistics

from .errors import UsageError


class Results:
    def __init__(self):
        self.records = []
        self.rounds = 0
        self.about = {}
        self.file = None

    def open(self, path, about):
        """Begins a run: writes all of it to a file, whose first line says on what, with what, when."""
        self.about = about
        if path:
            try:
                self.file = open(path, "w")
            except OSError as error:
                raise UsageError(f"{path}: {error.strerror}") from None
        self.write({"bench": about})

    def add(self, number, peer, test, values, failed=None):
        record = {"round": number, "peer": peer, "test": test, "values": values}
        if failed:
            record["failed"] = failed
        self.write(record)
        self.take(record)

    def take(self, record):
        self.records.append(record)
        self.rounds = max(self.rounds, record["round"] + 1)

    def write(self, record):
        if self.file:
            print(json.dumps(record), file=self.file, flush=True)

    def load(self, path):
        """Adds what an earlier run has written; its rounds follow those that are here."""
        first = self.rounds
        try:
            with open(path) as file:
                for line in file:
                    record = json.loads(line)
                    if "bench" in record:
                        kinds = {**self.about.get("kinds", {}), **record["bench"]["kinds"]}
                        self.about = {**record["bench"], "kinds": kinds}
                    else:
                        self.take({**record, "round": record["round"] + first})
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{path}: not a file that --out has written") from None

    def only(self, peers):
        """Forgets all other peers."""
        for peer in peers:
            if peer not in self.peers():
                raise UsageError(f"{peer} was not measured; measured were: {', '.join(self.peers())}")
        self.records = [record for record in self.records if record["peer"] in peers]

    def peers(self):
        return list(dict.fromkeys(record["peer"] for record in self.records))

    def by_round(self, peer, name):
        return {record["round"]: record["values"][name] for record in self.records
                if record["peer"] == peer and name in record["values"]}

    def failures(self):
        return sum("failed" in record for record in self.records)

    def others(self):
        """How many processors other programs kept busy meanwhile."""
        values = [record["values"]["others_processors"] for record in self.records if record["test"] == "others"]
        return statistics.median(values) if values else 0

    def median(self, peer, name):
        values = self.by_round(peer, name).values()
        return statistics.median(values) if values else None

    def ratio(self, peer, name, other, other_name=None):
        """Median of the ratios, each inside one round: what slows the machine down for a while slows both."""
        above, below = self.by_round(peer, name), self.by_round(other, other_name or name)
        ratios = [above[number] / below[number] for number in above if below.get(number)]
        return statistics.median(ratios) if ratios else None
