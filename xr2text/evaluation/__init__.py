"""Scores of generated reports: language, clinical content, and the baselines beside them."""
