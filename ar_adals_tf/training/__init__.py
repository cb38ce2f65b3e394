"""Training one run, resumable after every epoch."""
