"""Image transformers that published vision-language models see with, and what joins them to a language model."""
