"""Decoding in worker processes: a file that hangs, crashes or bursts its decoder costs itself alone.

pool      gives files to processes, and once more after a passing trouble
process   the parent's side of a process          worker    the child's side
wire      what a worker sends, without pickle     settings  limits, from the environment
"""

from xsearch.decoders.pool import Decoders, Event, identify, shared
from xsearch.decoders.settings import MAX_DECODERS

__all__ = ["MAX_DECODERS", "Decoders", "Event", "identify", "shared"]
