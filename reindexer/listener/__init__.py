"""The leading listener: drains, keeps queues filled, watches triggers; who leads is an election."""
