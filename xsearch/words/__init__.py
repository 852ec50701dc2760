"""Full-text search over the words of items: their texts, captions, keywords and file names.

tokens      from text to words, for documents and for queries
documents   the words of items
index       one SQLite FTS5 file: BM25, derived from the items as the FAISS index is
reader      that file, and the items committed since it was written
"""

from xsearch.words.index import NOTHING, Matches, WordIndex
from xsearch.words.reader import WordReader, load

__all__ = ["NOTHING", "Matches", "WordIndex", "WordReader", "load"]
