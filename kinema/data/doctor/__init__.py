"""What is wrong with a dataset directory: checks that survive any content, a report, and safe repairs."""
