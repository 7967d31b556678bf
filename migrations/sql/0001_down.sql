-- Takes away all that is ours and leaves the users' tables as they were: context_items goes only if we made it and it
-- is empty.
-- Dropping the functions takes the triggers that call them along.
DO $$
DECLARE routine regprocedure;
BEGIN
    FOR routine IN SELECT oid FROM pg_proc WHERE pronamespace = 'reindexer'::regnamespace LOOP
        EXECUTE format('DROP FUNCTION %s CASCADE', routine);
    END LOOP;
    IF obj_description(to_regclass('public.context_items'), 'pg_class') = 'Made by reindexer.' THEN
        IF NOT EXISTS (SELECT FROM public.context_items) THEN
            DROP TABLE public.context_items;
        END IF;
    END IF;
END $$;
DROP VIEW reindexer.item_status;
DROP TABLE reindexer.process, reindexer.run, reindexer.request, reindexer.ledger, reindexer.due, reindexer.outbox, reindexer.source;
