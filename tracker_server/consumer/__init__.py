"""The consumer: fill a batch, flush it in one transaction, tell the cache, acknowledge."""
