"""Operating system and hardware helpers.

durable      atomic, fsynced writes; digests     readahead   prefetching iterator
cores        CPU cores, priority of threads      memory      malloc tuning
threads      threads that share work
float16      float16 -> float32 conversion       crop        centre crop of images
lookup       positions in ascending ids          folder      writes that stay inside a folder
confine      limits of untrusted processes       scratch     temporary folders and files
identity     which xsearch this is               rendezvous  where programs of one user meet
objects      immutable files at any URL          cache       copies of them, of bounded size
retries      requests that are repeated          home        models and copies of the user
"""

__all__: list[str] = []
