"""Filters and orders of ListRuns: from their text to typed conditions. What they become in SQL is in store/run_search.py."""
