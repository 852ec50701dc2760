"""Maps: the items of a collection on a plane, near each other if they are alike.

The principal components are there at once. UMAP or PaCMAP, if installed, are computed in the background and
kept in the cache folder. Kinds have corners of their own in the space, which would be all that a map shows:
the mean of its kind is taken from every vector first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Literal
from uuid import uuid4

import numpy as np

from xsearch.query import Embedded, as_modalities
from xsearch.serve.contract import MapPoints, Position
from xsearch.serve.shelf import Held
from xsearch.store import Snapshot
from xsearch.types import Modality

__all__ = ["LAYOUTS", "Maps", "Method"]

LOG = logging.getLogger("xsearch")

Method = Literal["pca", "umap", "pacmap"]
MOST = 200_000  # points; more are sampled
FITTED = 20_000  # items that the components are computed of
LEAST = 10  # items of a better map
NEIGHBOURS = 10  # by which a query is placed among the points of a better map
KEPT = 4  # maps in memory, and of a collection on disk
KINDS = list(Modality)


def _umap(vectors: np.ndarray) -> np.ndarray:
    points: np.ndarray = (
        import_module("umap").UMAP(n_components=2, metric="cosine", random_state=0).fit_transform(vectors)
    )
    return points


def _pacmap(vectors: np.ndarray) -> np.ndarray:
    points: np.ndarray = import_module("pacmap").PaCMAP(n_components=2, random_state=0).fit_transform(vectors)
    return points


# float32 [n, dim] -> [n, 2], by method: the better first
LAYOUTS: Mapping[Method, Callable[[np.ndarray], np.ndarray]] = {"pacmap": _pacmap, "umap": _umap}


@dataclass
class _Plane:
    """One state of a collection on a plane. points: float32 [N, 2], of `ids`."""

    snapshot: Snapshot
    ids: np.ndarray
    method: Method
    points: np.ndarray

    @cached_property
    def bounds(self) -> tuple[np.ndarray, float]:
        """The middle of the points, [2], and by what they are divided to be within -1 to 1."""
        if not len(self.points):
            return np.zeros(2), 1.0
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        return (low + high) / 2, max(float((high - low).max()) / 2, 1e-9)

    def scaled(self, points: np.ndarray) -> np.ndarray:
        middle, scale = self.bounds
        return np.asarray(np.clip((points - middle) / scale, -1, 1))


class _Components:
    """The principal components of the items of a snapshot, without the means of their kinds."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.ids = snapshot.ids if len(snapshot) <= MOST else _sample(snapshot.ids, MOST)
        self.means = np.zeros((len(KINDS), snapshot.fingerprint.dim), np.float32)
        fitted = _sample(self.ids, FITTED)
        vectors, kinds = snapshot.vectors(fitted), snapshot.kinds_of(fitted)
        for code in np.unique(kinds):
            self.means[code] = vectors[kinds == code].mean(axis=0)
        centred = vectors - self.means[kinds]
        _, axes = np.linalg.eigh(centred.T @ centred)
        self.axes = axes[:, :-3:-1]  # [dim, 2]
        signs = np.sign(self.axes[np.abs(self.axes).argmax(axis=0), range(self.axes.shape[1])])
        self.axes = np.asarray(self.axes * np.where(signs == 0, 1, signs), np.float32)
        self.points = np.concatenate(
            [np.empty((0, 2), np.float32)]
            + [
                (snapshot.vectors(part) - self.means[snapshot.kinds_of(part)]) @ self.axes
                for part in np.array_split(self.ids, max(len(self.ids) // FITTED, 1))
                if len(part)
            ]
        )


def _sample(ids: np.ndarray, most: int) -> np.ndarray:
    """At most this many ids, always the same, ascending."""
    if len(ids) <= most:
        return ids
    return np.sort(np.random.default_rng(0).choice(ids, most, replace=False))


class Maps:
    """The maps of collections, computed once for each state. folder: where better ones are kept."""

    def __init__(
        self, folder: Path, layouts: Mapping[Method, Callable[[np.ndarray], np.ndarray]] = LAYOUTS
    ) -> None:
        self._folder = folder
        self._layouts = {
            name: layout for name, layout in layouts.items() if layouts is not LAYOUTS or _has(name)
        }
        self._components: dict[str, tuple[Snapshot, _Components]] = {}
        self._better: dict[tuple[str, Method], _Plane] = {}
        self._pending: dict[tuple[str, Method], Snapshot] = {}
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(1, "map")

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def points(
        self,
        held: Held,
        *,
        limit: int,
        modality: Sequence[Modality] | None,
        where: str | None,
        method: Method | None,
    ) -> MapPoints:
        """Return the items that pass the filters, sampled above `limit`. method: None for the best."""
        snapshot = held.view().snapshot
        plane, pending = self._plane(held, snapshot, method)
        ids = snapshot.select(where, as_modalities(modality or None))
        count = len(ids)
        ids = _sample(ids[np.isin(ids, plane.ids)], limit)
        points = plane.scaled(plane.points[np.searchsorted(plane.ids, ids)]).astype(np.float64).round(4)
        return MapPoints(
            collection=held.name,
            generation=snapshot.manifest.generation,
            method=plane.method,
            pending=pending,
            count=count,
            kinds=list(map(str, KINDS)),
            id=ids.tolist(),
            kind=snapshot.kinds_of(ids).tolist() if count else [],
            x=points[:, 0].tolist(),
            y=points[:, 1].tolist(),
        )

    def position(self, held: Held, query: Embedded, method: Method | None) -> Position:
        """Return where a query lies. From a sum, the means of the kinds of its parts are taken by weight."""
        snapshot, vector = held.view().snapshot, query.vector
        plane, _ = self._plane(held, snapshot, method)
        if plane.method == "pca":
            components = self._of(held, snapshot)
            codes = [KINDS.index(Modality(str(part.modality))) for part in query.query.parts]
            shares = np.array([part.weight for part in query.query.parts], np.float32) / query.norm
            point = (vector - shares @ components.means[codes]) @ components.axes
        else:
            cosines = snapshot.vectors(plane.ids) @ vector
            near = np.argsort(-cosines)[:NEIGHBOURS]
            weights = np.maximum(cosines[near], 1e-3)
            point = weights @ plane.points[near] / weights.sum()
        x, y = plane.scaled(point).astype(np.float64).round(4).tolist()
        return Position(x=x, y=y)

    def _of(self, held: Held, snapshot: Snapshot) -> _Components:
        kept = self._components.get(held.name)
        if kept is None or kept[0] is not snapshot:
            with self._lock:
                kept = self._components.get(held.name)
                if kept is None or kept[0] is not snapshot:
                    kept = self._components[held.name] = snapshot, _Components(snapshot)
        return kept[1]

    def _plane(self, held: Held, snapshot: Snapshot, method: Method | None) -> tuple[_Plane, str | None]:
        """Return the plane to show, and the better method that is being computed."""
        components = self._of(held, snapshot)
        pca = _Plane(snapshot, components.ids, "pca", components.points)
        better = [name for name in self._layouts if method in (None, name)]
        if not better or method == "pca" or len(components.ids) < LEAST:
            return pca, None
        name = better[0]
        plane = self._better.get((held.name, name))
        if plane is not None and plane.snapshot is snapshot:
            return plane, None
        with self._lock:
            if self._pending.get((held.name, name)) is not snapshot:
                self._pending[held.name, name] = snapshot
                self._pool.submit(self._compute, held, pca, name, components.means)
        return pca, name

    def _compute(self, held: Held, pca: _Plane, name: Method, means: np.ndarray) -> None:
        snapshot, ids, start = pca.snapshot, pca.ids, time.perf_counter()
        if self._pending[held.name, name] is not snapshot:  # an ingest goes on, and this state is over
            return
        path = self._folder / f"{_digest(snapshot, ids)}-{name}.npy"
        plane = pca
        try:
            points = self._stored(path, len(ids))
            if points is None:
                vectors = snapshot.vectors(ids) - means[snapshot.kinds_of(ids)]
                points = np.asarray(self._layouts[name](vectors), np.float32)
                self._keep(path, points)
            plane = _Plane(snapshot, ids, name, points)
            LOG.info("%s of %s in %.1f s", name, held.name, time.perf_counter() - start)
        except Exception as problem:  # of a package that is none of ours; the components stay
            LOG.warning("no %s of %s: %s", name, held.name, problem)
        self._better[held.name, name] = plane

    @staticmethod
    def _stored(path: Path, count: int) -> np.ndarray | None:
        with suppress(OSError, ValueError):
            points = np.load(path, allow_pickle=False)
            if points.shape == (count, 2) and points.dtype == np.float32 and np.isfinite(points).all():
                return np.asarray(points)
        return None

    def _keep(self, path: Path, points: np.ndarray) -> None:
        part = path.with_name(f"{path.name}.{uuid4().hex}.part")
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.save(file, points)
            part.replace(path)
            for old in sorted(path.parent.glob("*.npy"), key=lambda each: -each.stat().st_mtime)[KEPT:]:
                old.unlink(missing_ok=True)


def _has(name: str) -> bool:
    return find_spec(name) is not None


def _digest(snapshot: Snapshot, ids: np.ndarray) -> str:
    """What the points of a map depend on."""
    of: Any = (str(snapshot.path.absolute()), snapshot.fingerprint, snapshot.manifest.next_id)
    return sha256(repr(of).encode() + ids.tobytes()).hexdigest()[:32]
