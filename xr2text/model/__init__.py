"""HAQT-ARR between a timm image encoder and a BART decoder."""
