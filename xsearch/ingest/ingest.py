"""The whole of it: survey, work, ledger, and what is derived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from xsearch.derive import derive
from xsearch.ingest import local
from xsearch.ingest.known import Known
from xsearch.ingest.ledger import COMMIT_ITEMS, COMMIT_S, Ledger
from xsearch.ingest.report import Clock, Progress, Report
from xsearch.ingest.survey import survey
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.store import Store

__all__ = ["ingest"]


def ingest(
    store: Store | None,
    paths: Sequence[str | Path],
    backend: Backend | None,
    *,
    kinds: Sequence[tuple[Modality, str]] = (),
    metadata: str | Path | None = None,
    prune: bool = False,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
    decoders: int | None = None,
    commit_items: int = COMMIT_ITEMS,
    commit_s: float = COMMIT_S,
) -> Report:
    """Bring the collection in step with the media below `paths`: files, folders, URLs that fsspec knows.

    kinds: `(kind, glob)` rules that go before all detection.
    metadata: a CSV table with a column `path`; the others become columns of the items (see `metadata.py`).
    prune: also remove the items of files below `paths` that are gone.
    dry_run: compare only; `store` may be None (nothing is known yet) and `backend` too.
    decoders: processes that decode, one for each core if None; 0 to decode in this one.

    One bad file never ends a run: it is recorded with its reason and tried again when it has changed.
    Raises UsageError for a path that is not there, Locked while somebody else is writing.
    """
    clock = Clock()
    if not dry_run and (store is None or backend is None):
        raise ValueError("only a dry run goes without a store and a backend")
    with ExitStack() as stack:
        copies = stack.enter_context(TemporaryDirectory(prefix="xsearch-", ignore_cleanup_errors=True))
        writer = stack.enter_context(store.writer()) if store and not dry_run else None
        with clock.timed("look"):
            known = Known(writer.snapshot if writer else store.snapshot() if store else None)
            plan = survey(
                known,
                paths,
                kinds=kinds,
                metadata=metadata,
                collection=store.path if store else None,
                scratch=Path(copies).resolve(),
            )
        if writer is None or backend is None:
            report = plan.report if prune else replace(plan.report, removed=0)
            return replace(report, seconds=clock.seconds, spent=clock.spent)
        with Ledger(
            writer, known, plan, clock, commit_items=commit_items, commit_s=commit_s, progress=progress
        ) as ledger:
            local.run(plan, ledger, backend, clock, decoders)
            ledger.finish(prune=prune)
        with clock.timed("index"):
            derive(writer)
    return replace(ledger.report, seconds=clock.seconds, spent=clock.spent)
