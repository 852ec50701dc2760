"""Ingest: survey, embed, commit, update the derived files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xsearch.backend import replicas
from xsearch.decoders import MAX_DECODERS, Decoders
from xsearch.derive import derive
from xsearch.ingest import local
from xsearch.ingest.known import Known
from xsearch.ingest.ledger import COMMIT_ITEMS, COMMIT_S, Ledger
from xsearch.ingest.report import Clock, Progress, Report
from xsearch.ingest.survey import Survey, survey
from xsearch.ingest.work import Action
from xsearch.system import scratch
from xsearch.system.cores import CORES
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.store import Store

__all__ = ["Engine", "ingest"]


class Engine(Protocol):
    """Embeds the surveyed files elsewhere and reports the outcome of each to the ledger."""

    def __call__(
        self, survey: Survey, ledger: Ledger, backend: Backend, clock: Clock, *, captions: bool
    ) -> None: ...


def ingest(
    store: Store | None,
    paths: Sequence[str | Path],
    backend: Backend | None,
    *,
    kinds: Sequence[tuple[Modality, str]] = (),
    exclude: Sequence[str] = (),
    metadata: str | Path | None = None,
    prune: bool | Sequence[str | Path] = False,
    captions: bool = True,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
    decoders: int | None = None,
    devices: Sequence[str] = (),
    engine: Engine | None = None,
    commit_items: int = COMMIT_ITEMS,
    commit_s: float = COMMIT_S,
) -> Report:
    """Synchronise the collection with the media below `paths`: files, folders or fsspec URLs.

    kinds: `(kind, glob)` rules that override detection; see `xsearch.media.matches` for globs.
    exclude: globs of files and folders that are left out, as are those that a `.xsearchignore` excludes.
    metadata: a table with a `path` column; the others become item columns (see `xsearch.metadata`).
    prune: also remove the items of deleted and excluded files below `paths`, or only of those at and below
        these paths.
    captions: also embed titles, descriptions and keywords that pictures state, as text items of their files.
    dry_run: compare only; `store` (no collection yet) and `backend` may be None.
    decoders: number of decoder processes, default one per core; 0 decodes in this process.
    devices: where the model embeds on this machine, one batch at a time on each: by default where the backend
        does, and if that is no particular GPU, on all of them.
    engine: where files are decoded and embedded, by default on this machine; has devices of its own.

    A bad file never aborts the run: it is recorded with its reason and retried once it has changed.
    Raises UsageError for a missing path or an unusable `metadata`, Locked while another process is writing.
    """
    clock = Clock()
    if not dry_run and (store is None or backend is None):
        raise ValueError("store and backend are required unless dry_run")
    if engine is not None and devices:
        raise ValueError("devices are of this machine, an engine chooses its own")
    with ExitStack() as stack:
        copies = stack.enter_context(scratch.folder())
        side = backend.capabilities().image_side if backend else None
        count = min(CORES, MAX_DECODERS) if decoders is None else decoders
        pool = stack.enter_context(Decoders(count, side=side, with_facts=True, is_background=True))
        writer = stack.enter_context(store.writer()) if store and not dry_run else None
        with clock.timed("look"):
            known = Known(writer.snapshot if writer else store.snapshot() if store else None)
            plan = survey(
                known,
                paths,
                kinds=kinds,
                exclude=exclude,
                metadata=metadata,
                collection=store.path if store else None,
                scratch=copies,
                identify=pool.identify,
            )
        if writer is None or backend is None:
            return replace(plan.preview(prune), seconds=clock.seconds, spent=clock.spent)
        with Ledger(
            writer,
            known,
            plan,
            clock,
            facts=pool.facts,
            commit_items=commit_items,
            commit_s=commit_s,
            progress=progress,
        ) as ledger:
            if engine is None:
                tasks = plan.tasks(Action.EMBED)
                backends = replicas(backend, devices)
                local.run(tasks, ledger, backends, clock, pool, captions=captions)
            else:
                engine(plan, ledger, backend, clock, captions=captions)
            ledger.finish(prune)
        with clock.timed("index"):
            derive(writer)
    return replace(ledger.report, seconds=clock.seconds, spent=clock.spent)
