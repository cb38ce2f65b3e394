"""How a command runs, waits, shows progress, is interrupted, and ends."""
