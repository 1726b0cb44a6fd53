"""The same work through other trackers and through this one, side by side in one run. `make bench-peers` runs it."""
