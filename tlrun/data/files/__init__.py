"""Domains that lie in files: found, fetched, read ahead, decoded."""
