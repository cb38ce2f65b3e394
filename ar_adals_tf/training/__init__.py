"""Trains one run, resumable after every epoch, and chooses between runs."""
