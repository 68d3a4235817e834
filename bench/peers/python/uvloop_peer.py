"""The program of asyncio on uvloop."""

import asyncio_peer
import measure
import uvloop

if __name__ == "__main__":
    measure.main("uvloop", lambda window: uvloop.run(asyncio_peer.scenario(window, asyncio_peer.spawn_plain)))
