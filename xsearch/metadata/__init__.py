"""User columns of files, from metadata tables and from sidecars.

A table is a `metadata.csv`, `.tsv`, `.jsonl` or `.parquet` in a folder of media, and describes the files in
and below that folder, or it is the one that the user requests, and describes any file. One of its columns
names files: `path`, `SourceFile` (ExifTool) or `file_name` (Hugging Face), else the only column that is
called as if it did (`image`, `audio`, `*_path`, `*_file_name`...) and of which a value names a file.

A name is relative to the folder of the table or, if there is no such file, the end of the path of one or more
files below it. Absolute paths of other machines and URLs mean the file in the table's folder that ends like
them. Names are compared in Unicode NFC, with backslashes as slashes; a name that differs only in case means a
file if there is exactly one. Of several rows about a file the last counts.

Inner tables override outer ones, the requested table overrides all, and a sidecar overrides the tables: a
JSON object in `name.jpg.json` for that file, or else in `name.json` for every `name.*` in its folder. Column
names are lower-cased, as SQL ignores case; names reserved by xsearch get an underscore: `id` -> `id_`.
"""

from xsearch.metadata.columns import user_column
from xsearch.metadata.files import Files
from xsearch.metadata.metadata import Metadata
from xsearch.metadata.sidecar import TOO_LARGE, sidecar

__all__ = ["TOO_LARGE", "Files", "Metadata", "sidecar", "user_column"]
