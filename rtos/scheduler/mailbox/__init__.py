"""Mailboxes: bounded channels ordered by level and deadline.

``channels``: ``open_mailbox``. ``send``, ``receive``: the two ends. ``state``: the state that the
ends share. ``envelope``: a message in a mailbox, drop reasons and statistics. ``delivery``: the
``handling()`` block. ``dead_letters``: the quarantine of messages that failed twice.
``yielding``: when an operation gives way to other tasks.
"""
