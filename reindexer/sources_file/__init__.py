"""The sources file, `reindexer.toml`: tables that shall be kept indexed, and profiles.

    document.py   bytes on disk, to keys with their lines
    kinds.py      what may stand behind a key
    read.py       keys to what is wanted: all that can be known without a database
    fit.py        what is wanted to definitions: all that the database tells

Every error is a UsageError of one line: file, line, what is wrong, what to write instead. It never shows a secret.
"""
