"""sinks: how signed events leave the house, as our own plugins of the group `btt_bridge.sinks`.

In: one CloudEvent at a time. Out: its bytes, durable at the other side: a file, an HTTP receiver, an AMQP broker.
Wrong: `DeliveryRefusedError` where only a person can help, and `DeliveryUnreachableError` where waiting may.
"""

from btt_bridge.settle.sinks.file import FileSink

__all__ = ["FileSink"]
