"""Synthetic chest radiographs with a true report."""
