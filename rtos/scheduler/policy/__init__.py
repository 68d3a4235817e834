"""The rules, pure: no Trio, no clock, no thread. Time is passed in.

``bandwidth_server``: the rules of one CPU budget. ``levels``: the levels of urgency.
``context``: level, deadline and account of the tasks that run in it.
``timer_heap``: timers by time. ``message_queue``: waiting messages by level, deadline and arrival.
``wait_queue``: tasks that wait for a lock, and priority inheritance to its holders.
``overload``: what happens when a queue is full, and the counters of a mailbox.
``histogram``: latencies in buckets.
"""
