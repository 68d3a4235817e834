"""Commands and events between daemons: a command has one reply, an event has many receivers.

``bus``: attaches daemons and runs their workers. ``declare``: the decorators ``@command`` and ``@on``.
``commands``: sends commands and checks their parameters. ``events``: emits events to subscriptions.
``pattern``: matches event names (pure). ``following``: follows the change log of a database.
"""

from rtos.bus.bus import Bus, Daemon
from rtos.bus.commands import Commands
from rtos.bus.declare import command, on
from rtos.bus.events import Event, Events, Subscription
from rtos.bus.following import Followed, follow_changes

__all__ = [
    "Bus",
    "Commands",
    "Daemon",
    "Event",
    "Events",
    "Followed",
    "Subscription",
    "command",
    "follow_changes",
    "on",
]
