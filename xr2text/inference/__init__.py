"""From an image to a report with its region maps."""
