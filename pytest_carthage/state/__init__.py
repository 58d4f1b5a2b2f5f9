"""What outlives a process: the journal, the supervisor, kept environments."""
