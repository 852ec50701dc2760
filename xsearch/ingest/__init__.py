"""Files -> samples -> vectors -> store -> index. What is committed is never done again.

    ingest     all of it, one after the other
    survey     what there is to do: the files on the disk compared with those in the store, as a table
    known      what the store knows about files
    work       what is done to one file: pure functions and values that can be pickled
    local      the engine that does the work on this machine
    ledger     takes what became of the files, and writes it
    copies     files whose vectors are there already
    report     progress, and what came out
    interrupts Ctrl-C that waits for the end of a commit

A file is finished when all its samples are embedded, and only finished files are committed, every so many
items or seconds: a run that is killed loses the work since its last commit, and the next run goes on from
there.
"""

from xsearch.ingest.ingest import ingest
from xsearch.ingest.ledger import COMMIT_ITEMS
from xsearch.ingest.report import Progress, Report

__all__ = ["COMMIT_ITEMS", "Progress", "Report", "ingest"]
