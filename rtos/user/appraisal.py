"""Placeholder until the branch is merged."""


def appraised(item, kind):
    return ()


def shedding(reason):
    return ()
