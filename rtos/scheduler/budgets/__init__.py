"""CPU budgets and the protection against starvation, applied to scheduling contexts.

``enforcement``: charges the budgets of contexts, throttles or demotes, times refills.
``starvation_guard``: a share of the time for less urgent levels while the loop is saturated.
"""
