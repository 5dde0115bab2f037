"""Public data layouts as Study records, and the dataset that training reads."""
