"""What is indexed: sources, their rows and keys, and the triggers that record their changes."""
