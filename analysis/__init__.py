"""What do the numbers mean?

Windows, sketches, statistics and decisions as pure functions: no I/O, no clock, no globals.
"""
