"""The sources file, `reindexer.toml`: tables that are to be indexed, and profiles.

    document.py   bytes on disk to keys with their lines
    kinds.py      the values that a key may have
    read.py       keys to wanted sources and profiles: all checks that need no database
    fit.py        wanted sources to definitions: all checks that need the database

Every error is a UsageError of one line: file, line, what is wrong, what to write instead. It never shows a secret.
"""
