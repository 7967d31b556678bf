-- Where names without a schema lead.

-- name: of_our_namesake
-- The role that is named like our schema: whether we are it, its search_path in this database as an application of it
-- gets it, and which schemas there are.
SELECT rolname = current_user AS is_us,
       coalesce(
           (SELECT split_part(setting, '=', 2) FROM pg_db_role_setting, unnest(setconfig) AS setting
            WHERE setrole = pg_roles.oid AND setdatabase = pg_database.oid AND setting LIKE 'search\_path=%'),
           (SELECT split_part(setting, '=', 2) FROM pg_db_role_setting, unnest(setconfig) AS setting
            WHERE setrole = pg_roles.oid AND setdatabase = 0 AND setting LIKE 'search\_path=%'),
           (SELECT split_part(setting, '=', 2) FROM pg_db_role_setting, unnest(setconfig) AS setting
            WHERE setrole = 0 AND setdatabase = pg_database.oid AND setting LIKE 'search\_path=%'),
           (SELECT CASE WHEN source IN ('default', 'configuration file') THEN setting ELSE boot_val END
            FROM pg_settings WHERE name = 'search_path')
       ) AS path,
       ARRAY(SELECT nspname::text FROM pg_namespace) AS schemas,
       format('ALTER ROLE reindexer IN DATABASE %I SET search_path = public', datname) AS mend
FROM pg_roles CROSS JOIN pg_database
WHERE rolname = 'reindexer' AND rolcanlogin AND datname = current_database();

-- name: others_in_our_schema
-- What is left there when all that is ours is gone.
SELECT format('%I', relname) FROM pg_class
WHERE relnamespace = to_regnamespace('reindexer') AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype IN ('a', 'i') AND classid = 'pg_class'::regclass)
UNION ALL
SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = to_regnamespace('reindexer')
UNION ALL
SELECT format('%I', typname) FROM pg_type
WHERE typnamespace = to_regnamespace('reindexer') AND typtype IN ('e', 'd', 'r')
    OR (typnamespace = to_regnamespace('reindexer') AND typtype = 'c'
        AND EXISTS (SELECT FROM pg_class WHERE pg_class.oid = typrelid AND relkind = 'c'))
ORDER BY 1;
