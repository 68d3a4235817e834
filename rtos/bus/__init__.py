"""How everything above the kernel talks: commands (one reply) and events (many receivers)."""

from rtos.bus.bus import Bus, Daemon
from rtos.bus.commands import Commands
from rtos.bus.declare import command, on
from rtos.bus.events import Event, Events, Subscription

__all__ = ["Bus", "Commands", "Daemon", "Event", "Events", "Subscription", "command", "on"]
