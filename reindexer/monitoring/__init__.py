"""What the program reports about itself: metrics, status, heartbeats. Except for stored counters and heartbeats, it
only reads."""
