"""Sabotage: takes each protecting mechanism away in turn, and looks whether its test notices. `make sabotage` runs it."""
