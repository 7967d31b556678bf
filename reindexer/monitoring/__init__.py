"""What the program tells of itself: metrics, status, heartbeats. But for the metrics' store it only reads."""
