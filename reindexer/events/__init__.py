"""Events: who is told what became of items, runs and generations, and what still has to be told."""
