"""Incremental ingest: files -> samples -> vectors -> store -> index.

    ingest     the entry point
    roots      files and folders named by the user
    listing    the files below them, local and remote
    known      files recorded in the store
    survey     compares the two; the work to do, as a table
    others     files of a folder without items: no media, excluded, removed for good
    work       tasks and the pure functions applied to one file, all picklable
    local      runs tasks on this machine; `xsearch.cluster` has it done by many
    ledger     collects results and commits them
    copies     files whose content is already embedded
    columns    values as stored
    removal    which items a removal is about
    report     progress and the final report
    interrupts deferred SIGINT

A file is finished when all its samples are embedded. Only finished files are committed, every so many items
or seconds: a run that is killed loses the work since its last commit, and the next run resumes there.
"""

from xsearch.ingest.ingest import Engine, ingest
from xsearch.ingest.ledger import COMMIT_ITEMS
from xsearch.ingest.removal import Removal
from xsearch.ingest.report import Progress, Report

__all__ = ["COMMIT_ITEMS", "Engine", "Progress", "Removal", "Report", "ingest"]
