"""Report text: sections, sentences and the tokenizer."""
