"""The token store and the tokenizer that fills it."""
