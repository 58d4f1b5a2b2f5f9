"""What a person typed: layouts, names, durations."""
