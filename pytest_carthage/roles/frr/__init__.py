"""FRR: a router of Debian's package, its shell, and when its protocols have come to rest."""
