"""Whether the network is being written as a graph, which holds operators of torch only."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_GRAPH = ContextVar("graph", default=False)


@contextmanager
def written_as_graph() -> Iterator[None]:
    """Let networks leave out our own autograd functions.

    A trace alone does not ask for that: multiply-adds are counted in one too, and have to be those
    of the network as it runs.
    """
    token = _GRAPH.set(True)
    try:
        yield
    finally:
        _GRAPH.reset(token)


def is_written_as_graph() -> bool:
    """Return whether our own autograd functions have to be left out."""
    return _GRAPH.get()
