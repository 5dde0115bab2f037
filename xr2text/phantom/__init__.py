"""Synthetic chest radiographs with true masks and a true report."""
