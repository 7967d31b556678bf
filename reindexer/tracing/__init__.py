"""Traces by OpenTelemetry: where the standard variables ask for them, or the application has them already.

`process` says whether this process has traces; `current`, to which one a piece of work belongs; `otlp` alone knows
OpenTelemetry, and is imported only where there are traces. What is recorded is sent by a thread of its own: a collector
that is slow or dead costs what it would have got, and delays nothing (docs/adr/0064).
"""
