"""A worker process: which claim comes next, how it is processed, and how many run at once."""
