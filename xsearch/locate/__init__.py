"""Where in a picture is what a query says, shows or sounds like.

locator      from pictures and queries to boxes, or to none
reading      the picture as the model sees it in windows; `boxes`: their geometry
generic      what all queries of a kind have in common
thresholds   from which score on something is there; `calibrate`: measured on pictures without it
"""

from xsearch.locate.calibrate import calibrate
from xsearch.locate.locator import Located, Locator
from xsearch.locate.reading import Reading
from xsearch.locate.thresholds import Thresholds

__all__ = ["Located", "Locator", "Reading", "Thresholds", "calibrate"]
