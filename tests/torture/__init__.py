"""The torture test: random edits under random faults, then an exact comparison by an independent checker.

    run        one run, from its first process to its line
    stage      the servers, a fault-injecting proxy before each, and the environment of our processes
    cast       our processes: listeners, workers of every pool, the API; killed, stopped and started again
    storm      chooses a fault every second or so; `faults` is the catalogue
    writer     a process that edits rows by SQL and calls the bulk endpoint; `edits` is its catalogue
    lies       what the embedding provider answers instead of vectors
    journal    what the writers did, and which embeddings that called for
    checker    compares rows and points; knows nothing of the program but its public rules
    autopsy    what is known of an item that differs

docs/torture.md tells what it shows and what it does not.
"""
