"""Embedding: the same system inside a program that is not a Trio program.

``rtos.host.asyncio`` runs it inside an asyncio loop (Trio's guest mode), and
``rtos.host.thread`` in a thread of its own, for synchronous programs. In a Trio
program there is nothing to adapt: use ``open_scheduler`` or ``open_runtime``.
"""
