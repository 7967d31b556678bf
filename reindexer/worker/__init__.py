"""A worker process: which claim is next, what is done with it, how many at once."""
