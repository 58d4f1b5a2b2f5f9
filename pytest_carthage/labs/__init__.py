"""Labs that people have, as layouts: of containerlab, Kathará and compose.

A reader takes a lab's files for a :class:`.lab.Lab`: members in words of ours, each with its place,
and what it has not understood. Of that both a class and its source text are made.
"""
