"""Models behind one seam.

protocol     what ingest and search need of a model: `Backend`, `Capabilities`
imagebind    ImageBind's towers, each behind a lock of its own
official     the official code's reading of media and scaling of vectors
"""

from xsearch.backend.protocol import Backend, Capabilities, Scaling

__all__ = ["Backend", "Capabilities", "Scaling"]
