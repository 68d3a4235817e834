"""CPU budgets: how much a context may use, and what happens beyond it.

``bandwidth_server``: the rules of one budget, a constant bandwidth server.
``enforcement``: applies them to contexts.
``starvation_guard``: the share of the time that less urgent levels always get.
"""
