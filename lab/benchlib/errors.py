"""The two ways in which something goes wrong."""


class UsageError(Exception):
    """The user has to change something: the whole run ends."""


class Failed(Exception):
    """One peer or one test did not work: it is said and noted, and the run goes on."""
