-- Takes away all that is ours and leaves the users' tables as they were: context_items goes only if we made it and it
-- is empty.
-- Dropping the functions takes the triggers that call them along. A function of somebody else's stays, though it lies in
-- our schema, to which the "$user" of a role leads that is named like it.
DO $$
DECLARE routine regprocedure;
BEGIN
    -- guard uninstall-own-routines-only
    FOR routine IN SELECT oid FROM pg_proc WHERE pronamespace = 'reindexer'::regnamespace
        AND prorettype = 'trigger'::regtype AND proname ~ '_(rows|update|whole|replica)$' AND prosrc LIKE '%reindexer.outbox%'
    LOOP
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
