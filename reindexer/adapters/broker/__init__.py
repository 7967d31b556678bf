"""Redis or RabbitMQ, by Celery."""
