"""One self-contained offline page that shows an evaluation."""
