"""How everything above the kernel talks: commands (one reply) and events (many receivers)."""

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
