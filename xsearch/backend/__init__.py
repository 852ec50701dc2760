"""Models behind one seam.

protocol     what ingest and search need of a model: `Backend`, `Capabilities`
loading      which one: by name, by folder, or that of a collection
imagebind    ImageBind's towers, each behind a lock of its own
official     the official code's reading of media and scaling of vectors
"""

from xsearch.backend.loading import full_name, load_backend, load_matching, model_source, replicas
from xsearch.backend.protocol import Backend, Capabilities, DenseBackend, Scaling

__all__ = [
    "Backend",
    "Capabilities",
    "DenseBackend",
    "Scaling",
    "full_name",
    "load_backend",
    "load_matching",
    "model_source",
    "replicas",
]
