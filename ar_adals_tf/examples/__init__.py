"""Examples as people have them: arrays, datasets, ids, and the order of an epoch."""
