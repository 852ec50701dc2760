"""Files -> samples -> vectors -> store -> index. What is committed is never done again.

    update     all of it, one after the other
    survey     what there is to do: the files compared with the store
    run        decode, embed, commit
    copies     files whose vectors are there already

A file is finished when all its samples are embedded, and only finished files are committed, every so many
items or seconds: a run that is killed loses the work since its last commit, and the next run goes on from
there.
"""

from xsearch.ingest.report import Progress, Report
from xsearch.ingest.run import COMMIT_ITEMS
from xsearch.ingest.update import ingest

__all__ = ["COMMIT_ITEMS", "Progress", "Report", "ingest"]
