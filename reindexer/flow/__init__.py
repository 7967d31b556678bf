"""The use cases, in the order in which a change meets them.

    drain      outbox -> due                         (listener)
    dispatch   due -> messages in the lanes' queues  (listener)
    claim      due -> a batch under a lease          (worker)
    read       the rows as they are now              (worker)
    work       plan, embed, write                    (worker)
    settle     outcomes -> ledger, due row deleted   (worker)

Beside them: `requests` (the bulk endpoint's wishes), `walk` (whole sources, page by page), `backfill` (the same
for users) with `condition` (which rows), `reconcile` (table against Qdrant itself), `sweep` (what a timer does),
`attach` (sources and their triggers), `status` and `search` (what users see). Each works on Postgres directly: Postgres
is the design, not a port.
"""
