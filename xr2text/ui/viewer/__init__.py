"""The radiograph with its regions and the report's sentences, drawn in the browser."""
