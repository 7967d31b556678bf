"""The queue in Postgres, in the order in which a change meets it: drain, dispatch, claim, settle."""
