"""Private, unprivileged RabbitMQ, Redis and PostgreSQL servers, for the stack and for tests.

>>> with RabbitMQ(directory) as broker:
...     connect(broker.url)
"""

from deploy.servers.errors import ServerError
from deploy.servers.postgresql import PostgreSQL
from deploy.servers.rabbitmq import RabbitMQ
from deploy.servers.redis import Redis
from deploy.servers.server import Server, start_all, stop_all

__all__ = ["PostgreSQL", "RabbitMQ", "Redis", "Server", "ServerError", "start_all", "stop_all"]
