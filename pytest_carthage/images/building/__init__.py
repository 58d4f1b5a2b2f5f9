"""Making the layers of an image, each by who has claimed it.

From low to high: what one build is about (``build``), the folder in which a layer is made
(``bench``), the Python that is lent meanwhile (``python``), and the layers (``base``, ``step``).
"""
