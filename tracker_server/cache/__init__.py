"""Adapters of ports.Cache. Redis is imported in this folder only."""
