"""What a task works with."""
