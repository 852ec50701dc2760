"""Export to and import from plain files, so that collections are portable.

An export has one row per item, by suffix:

    .parquet  its columns and `vector`, fixed_size_list<float16 or float32>[dim]. The key-value metadata
              records the model of the vectors as JSON under "xsearch". Without suffix: a folder of these
    .jsonl    the same as JSON lines, without the model
    .npy      the vectors, float32 [n, dim]; the columns of row i are row i of the Parquet file of that name
    .csv      the columns only; texts that a spreadsheet would run as formulas get a leading apostrophe

`read` accepts these (but CSV), any Parquet and JSON lines with path, modality and vector, and the output of
clip-retrieval:

    img_emb/img_emb_0.npy, text_emb/text_emb_0.npy   float16 or float32 [N, dim]; at least one of the two
    metadata/metadata_0.parquet                      N rows in that order: image_path, caption, url, key, ...
"""

from xsearch.exchange.exported import export
from xsearch.exchange.imported import Imported, import_, load
from xsearch.exchange.source import Source, read

__all__ = ["Imported", "Source", "export", "import_", "load", "read"]
