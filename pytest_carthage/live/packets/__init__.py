"""What is sent: captures, recordings, the proof of a seal."""
