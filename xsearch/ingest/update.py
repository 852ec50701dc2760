"""The whole of it: survey, run, copies, and what is derived."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from xsearch.decoders import MOST_DECODERS, Decoders
from xsearch.derive import derive
from xsearch.ingest.report import Progress, Report
from xsearch.ingest.run import COMMIT_ITEMS, COMMIT_S, Run
from xsearch.ingest.survey import Survey
from xsearch.system.cores import CORES, use_threads
from xsearch.system.memory import keep_memory
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
    start_s = time.perf_counter()
    if not dry_run and (store is None or backend is None):
        raise ValueError("only a dry run goes without a store and an backend")
    with ExitStack() as stack:
        copies = stack.enter_context(TemporaryDirectory(prefix="xsearch-", ignore_cleanup_errors=True))
        writer = stack.enter_context(store.writer()) if store and not dry_run else None
        before = writer.snapshot if writer else store.snapshot() if store else None
        own = store.path if store else None
        survey = Survey(before, paths, kinds, metadata, own, Path(copies).resolve())
        if writer is None or backend is None or before is None:
            gone = sum(len(survey.known[name].ids) for name in survey.vanished()) if prune else 0
            return _report(survey, start_s, new=Counter(file.modality for file in survey.work), removed=gone)
        keep_memory()
        run = Run(writer, backend, survey, progress, commit_items, commit_s, start_s)
        if decoders is None:
            decoders = min(CORES, MOST_DECODERS, len(survey.work))
        try:
            with Decoders(decoders, side=backend.capabilities().image_side) as processes:
                run.embed_all(processes)
            run.copy_all(before)
            if prune:
                run.prune()
        except BaseException:  # Ctrl-C too
            if not run.busy:
                run.commit()
            raise
        finally:
            use_threads(CORES)
        run.commit()
        with run.timed("index"):
            derive(writer)
    return _report(survey, start_s, skipped=(*survey.skipped_still, *run.skipped), **run.counts())


def _report(survey: Survey, start_s: float, **counts: Any) -> Report:
    values: dict[str, Any] = {
        "files": survey.files,
        "items": Counter(),
        "changed": sum(file.name in survey.known for file in survey.work),
        "unchanged": survey.unchanged,
        "duplicates": 0,
        "moved": 0,
        "described": len(survey.described),
        "removed": 0,
        "skipped": (*survey.skipped_still, *survey.skipped),
        "not_media": survey.not_media,
        "seconds": time.perf_counter() - start_s,
        "spent": {"look": time.perf_counter() - start_s},
    }
    return Report(**(values | counts))
