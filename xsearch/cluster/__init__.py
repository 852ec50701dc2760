"""Ingest, indexes and searches on many machines, with Ray; what they give is what one machine gives.

    engine      the driver of an ingest: surveyed files -> units -> workers -> ledger
    units       cuts the survey's table into units of work, and names files and parts by what they depend on
    worker      a Ray actor: decodes and embeds the files of a unit, as `ingest.local` does
    part        the file in which a worker leaves the outcomes of a unit
    tasks       shards of an index, added in parallel
    serving     deployments of Ray Serve: replicas of a model, and of the shards of an index
    embedder    a replica of a model, and the backend that has queries embedded by replicas
    searcher    one shard of an index, searched elsewhere
    fan         calls of all searchers, or embedders, at once
    spread      the index of which each shard is at a searcher
    connection  to a cluster, or to one that is started on this machine

An ingest has the survey and the ledger of one machine, and other hands for the work between. A unit is some
256 consecutive rows of the survey's table. A worker runs the local engine on it; only where outcomes go
differs: into a part, `parts/<hash>.part` of the collection. The hash is of the rows, the model's fingerprint
and the parameters. A part is put only where there is none of its name: several tries leave one file. What a
killed run has left in parts is taken over by the next, file by file: lost are the units that were at work.
Files that failed are tried again.

The driver replays each part into its ledger, in the order of the unit's files: claims, items, failures. So
duplicates, moved and changed files, skip records, sidecars, progress, pruning and derived files are what they
are on one machine; a duplicate in another unit is embedded once more, and that is dropped. What a worker took
for a copy, and the ledger does not, goes into a second round, in which all is embedded. Ids are assigned at
the commit: segments contain them, and no worker could know them. Parts are deleted once the manifest has
their items; leftovers are deleted as all files without a reference. The manifest alone says what is done:
whatever was killed, the next run surveys again and does what is left.

Ray places workers, moves units, and notices that a process or a node has died; then its units go to other
workers, and another worker is requested in its place, which waits for room without holding a unit. (An actor
pool of Ray Data keeps the units of a dead worker until that one has been restarted: it waits for ever where a
lost node leaves no room.)

Every node has the same xsearch and model, and the collection and the media at the same paths, on a file
system with hard links; or media are URLs, parts go to a URL, and the driver alone has the collection. A node
that lacks the folder of the parts, the model or a file that the driver can open ends the ingest by an error
that names it: its files are not recorded as failures of theirs.
"""

from xsearch.cluster.connection import describe
from xsearch.cluster.engine import Ray
from xsearch.cluster.tasks import Tasks

__all__ = ["Ray", "Tasks", "describe"]
