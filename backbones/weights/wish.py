"""What a user says about where a network lies in its file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wish:
    """What the user said about where the network lies.

    Attributes:
        branch: One of ``branches.BRANCHES``; empty takes the official one.
        key: Dictionaries around the weights, joined by dots; None searches.
        prefix: What stands before the network's names in there; None searches.
    """

    branch: str = ""
    key: str | None = None
    prefix: str | None = None

    def allows(self, prefix: str) -> bool:
        """Tell whether a full prefix is among those that were asked for."""
        key = f"{self.key}." if self.key else ""
        if self.prefix is not None:
            own = self.prefix + "." * (bool(self.prefix) and not self.prefix.endswith("."))
            return prefix == key + own if self.key is not None else prefix.endswith(own)
        return prefix.startswith(key)
