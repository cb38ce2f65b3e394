"""Studies: named sets of experiments that one command plans, runs and reports."""
