"""What the operating system and the hardware need of us.

durable      writes that last, and checksums     readahead   an iterator that runs ahead of its reader
cores        how many this process may use       memory      what the allocator keeps
float16      widening stored vectors             crop        the part of a picture that models see
"""

__all__: list[str] = []
