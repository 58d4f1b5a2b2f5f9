"""Ways into one machine, the same promises on each."""
