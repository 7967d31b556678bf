-- name: indexed
-- Fingerprints of texts that are indexed, as far as the ledger knows.
SELECT ledger.item_id, ledger.text_fingerprint
FROM reindexer.ledger JOIN reindexer.source ON source.name = ledger.source AND source.generation = ledger.generation
WHERE ledger.source = %(source)s AND ledger.item_id = ANY (%(item_ids)s) AND ledger.outcome = 'COMPLETED';
