"""Events to a topic exchange: persistent, confirmed by the broker, and never to nobody."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from amqp import Channel, Connection, Message
from amqp.exceptions import AMQPError

from btt_bridge.config import Sink
from btt_bridge.errors import DeliveryUnreachableError
from btt_bridge.settle.sinks.address import check_private
from btt_bridge.signing import canonical

#: As the AMQP binding of CloudEvents 1.0 names structured mode.
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"

_PORT, _TLS_PORT = 5672, 5671
#: AMQP 0-9-1, reply code `no-route`.
_NO_ROUTE = 312
_PERSISTENT = 2


class AmqpSink:
    """Publishes under the event's type as routing key; durable once the broker confirms it.

    An event that no queue is bound for comes back (`mandatory`) and is tried again: nobody has it yet.
    """

    def __init__(self, row: Sink) -> None:
        self._row = row
        self._parts = check_private(row, secure="amqps", plain="amqp")
        self._connection: Any = None
        self._channel: Any = None

    def emit(self, event: Mapping[str, Any]) -> None:
        try:
            self._publish(event)
        except (AMQPError, OSError) as problem:
            advice = "bind a durable queue to the exchange" if getattr(problem, "reply_code", 0) == _NO_ROUTE else ""
            raise DeliveryUnreachableError(
                f"the broker did not take the event ({type(problem).__name__})", advice=advice
            ) from None

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            # Without a farewell, for which a broker that hangs would let us wait.
            connection.collect()

    def _publish(self, event: Mapping[str, Any]) -> None:
        channel = self._channel or self._open()
        message = Message(
            canonical(dict(event)),
            content_type=CONTENT_TYPE,
            message_id=event["id"],
            type=event["type"],
            delivery_mode=_PERSISTENT,
        )
        channel.basic_publish_confirm(
            message,
            exchange=self._row.exchange,
            routing_key=event["type"],
            mandatory=True,
            confirm_timeout=self._row.timeout_seconds,
        )

    def _open(self) -> Channel:
        row, parts = self._row, self._parts
        secure = parts.scheme == "amqps"
        password = Path(row.token_file).read_text().strip() if row.token_file else unquote(parts.password or "guest")
        self._connection = Connection(
            host=f"{parts.hostname}:{parts.port or (_TLS_PORT if secure else _PORT)}",
            userid=unquote(parts.username or "guest"),
            password=password,
            virtual_host=unquote(parts.path[1:]) or "/",
            ssl={"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": parts.hostname} if secure else False,
            connect_timeout=row.timeout_seconds,
            read_timeout=row.timeout_seconds,
            write_timeout=row.timeout_seconds,
        )
        self._connection.connect()
        self._channel = self._connection.channel()
        self._channel.exchange_declare(row.exchange, "topic", durable=True, auto_delete=False)
        return self._channel
