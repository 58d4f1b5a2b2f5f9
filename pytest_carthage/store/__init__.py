"""Layers by content key, and what is remembered of them: kept, held, collected.

From low to high: values (``layer``), files on disk (``disk``) and who holds them (``holding``);
what is kept (``layers``, ``records``, ``outcomes``, ``broken``, ``claims``); the store itself
(``root``); images that were built (``built``), who uses them (``users``), all of them
(``inventory``), and their removal (``garbage``).
"""
