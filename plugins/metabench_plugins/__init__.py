"""The first-party plugins of metabench: built as an outsider would build them."""
