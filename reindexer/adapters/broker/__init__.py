"""The broker, Redis or RabbitMQ, through Celery."""
