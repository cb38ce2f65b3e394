"""What a robustness index is made of: distances, checks, shards, and its file."""
