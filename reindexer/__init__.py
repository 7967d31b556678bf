"""Keeps the text of Postgres tables searchable as vectors in Qdrant.

The packages, in the order in which a change meets them:

    sources      what is indexed: definitions, triggers, rows and keys
    queue        drain    outbox -> due                         (listener)
                 dispatch due -> messages in the lanes' queues  (listener)
                 claim    due -> a batch under a lease          (worker)
                 settle   outcomes -> ledger, due row deleted   (worker)
    worker       one claim: read the rows, plan, embed, write; which batch is next, and how many at once
    embedding    texts to vectors, in as few requests as the limits allow
    index        points: written, reused, searched, compared with the table
    listener     the leading listener, and its election
    backfills    whole sources, page by page
    monitoring   metrics, status, heartbeats

Below them: `core` (plain data and pure functions), `ports` (Protocols for products that can be exchanged), `postgres`
(part of the design, not a port), `audit`. Above them: `adapters` (the products), `embedded` (servers that `up` starts),
`settings`, `wiring`, and the processes: `listen`, `tasks`, `cli`, and the package `api`.
"""

__version__ = "0.1.0"
