"""A report as files for people and for other programs."""
