"""Incremental ingest: files -> samples -> vectors -> store -> index.

    ingest     the entry point
    survey     compares the files on disk with the store; the work to do, as a table
    known      files recorded in the store
    work       tasks and the pure functions applied to one file, all picklable
    local      the engine: runs tasks on this machine
    ledger     collects results and commits them
    copies     files whose content is already embedded
    report     progress and the final report
    interrupts deferred SIGINT

A file is finished when all its samples are embedded. Only finished files are committed, every so many items
or seconds: a run that is killed loses the work since its last commit, and the next run resumes there.
"""

from xsearch.ingest.ingest import ingest
from xsearch.ingest.ledger import COMMIT_ITEMS
from xsearch.ingest.report import Progress, Report

__all__ = ["COMMIT_ITEMS", "Progress", "Report", "ingest"]
