"""The queue in Postgres. A change passes its modules in this order: drain, dispatch, claim, settle."""
