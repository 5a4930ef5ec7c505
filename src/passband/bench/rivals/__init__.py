"""What others install or write: one small module each, whose package is imported where it is called.

The packages come with the extra `bench`. They are measured from outside, by their public functions; none is a part of
Passband or needed by it.
"""
