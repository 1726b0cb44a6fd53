"""Reads: from the store, or the cache, to answers."""
