"""The page at `/`: what it is made of (`static`), who is logged in (`session`), and what it shows live (`overview`)."""
