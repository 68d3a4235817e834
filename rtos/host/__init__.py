"""Run a scheduler or a whole runtime inside a program that is not a Trio program.

``asyncio``: inside an asyncio event loop, by Trio's guest mode.
``thread``: in a thread of its own, for synchronous programs.
``bridge``: what both share: the open system, and the calls sent to it.

A Trio program needs neither: use ``open_scheduler`` or ``open_runtime`` directly.
"""
