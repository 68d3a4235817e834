"""Mailboxes: bounded memory channels ordered by level and deadline.

``channels``: ``open_mailbox``. ``send``, ``receive``: the two ends. ``state``: what both ends share.
``envelope``: a message under way. ``delivery``: handling one message.
``dead_letters``: messages that failed twice.
``yielding``: when a loop of receives gives way.
"""
