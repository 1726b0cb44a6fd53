"""Adapters of the broker ports: RabbitMQ (pika stays inside this package) and an in-process hand-off."""
