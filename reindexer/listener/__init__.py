"""The leading listener: drains, keeps queues filled, and monitors triggers. An election decides which listener
leads."""
