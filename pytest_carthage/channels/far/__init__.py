"""A machine that is far away: an agent there, a deputy here, one stream between them."""
