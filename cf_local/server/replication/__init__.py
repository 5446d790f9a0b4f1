"""Fusions with replicas on a Ray cluster, behind the same interface (docs/server.md)."""
