"""Whole experiments: configuration, run, published tables, report."""
