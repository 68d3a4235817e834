from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from talking import Chat, scripted, system

from rtos.cli.client import AnswerError, Client, NotRunningError


async def test_results_errors_and_events_come_over_a_real_socket(tmp_path: Path) -> None:
    def talk() -> None:
        with Client(tmp_path) as client:
            client.subscribe("data:chat_messages:created")
            said = client.execute("chat/send", {"room": "a", "text": "hello"}, timeout=30)
            # Told before the answer, and kept for whoever asks for events afterwards.
            events = client.events(timeout=30)
            assert [next(events)["payload"]["record"]["reply_to"] for _ in range(3)] == [
                None,
                "another",
                said["id"],
            ]
            with pytest.raises(AnswerError, match="no daemon serves this command") as caught:
                client.execute("nonsense", {}, timeout=30)
            assert caught.value.error["type"] == "UnknownCommand"
            with pytest.raises(AnswerError, match="has the segment ''"):
                client.subscribe("a::b")

    async with system(tmp_path, Chat()):
        await trio.to_thread.run_sync(talk)


async def test_a_client_that_leaves_cancels_what_it_asked_for(tmp_path: Path) -> None:
    chat = Chat()
    async with system(tmp_path, chat):
        client = Client(tmp_path).__enter__()
        try:
            client._socket.sendall(b'{"id": 1, "command": "chat/hang"}\n')
            await chat.waiting.wait()
        finally:
            client.__exit__(None, None, None)
        await chat.gone.wait()


async def test_a_subscription_that_cannot_go_on_is_an_error(tmp_path: Path) -> None:
    subscribed = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def follow() -> None:
        with Client(tmp_path) as client:
            client.subscribe("a:*")
            token.run_sync_soon(subscribed.set)
            with pytest.raises(AnswerError, match="internal error"):
                next(client.events(timeout=30))

    async with system(tmp_path, Chat()) as bus, trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, follow)
        await subscribed.wait()
        bus.events.emit("a:b", object())


@pytest.mark.parametrize("left", ["nothing", "a file", "a socket without a listener"])
def test_nobody_there(left: str, tmp_path: Path) -> None:
    if left == "a file":
        (tmp_path / "control.sock").touch()
    elif left.startswith("a socket"):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "control.sock"))
    with pytest.raises(NotRunningError, match="start one with `python -m rtos boot --root"), Client(tmp_path):
        pass


def test_a_path_that_no_socket_can_have_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="no system is running"), Client(tmp_path / ("x" * 200)):
        pass


def test_the_hint_can_be_pasted(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="--root '.*/my root'`"), Client(tmp_path / "my root"):
        pass


def test_a_system_that_goes_away_is_told(tmp_path: Path) -> None:
    with (
        scripted(tmp_path, lambda peer: peer.recv(100)),
        Client(tmp_path) as client,
        pytest.raises(NotRunningError, match="no system is running"),
    ):
        client.execute("ping", {}, timeout=30)


def test_what_is_said_before_hanging_up_is_heard_although_sending_fails(tmp_path: Path) -> None:
    def turn_away(peer: socket.socket) -> None:
        peer.sendall(b'{"id": null, "ok": false, "error": {"type": "Refused", "message": "too much"}}\n')

    with (
        scripted(tmp_path, turn_away),
        Client(tmp_path) as client,
        pytest.raises(AnswerError, match="too much"),
    ):
        # More than fits in between: it cannot have been sent when the other end hangs up.
        client.execute("memory/learn", {"text": "x" * 5_000_000}, timeout=30)


def test_a_line_may_come_in_pieces_and_several_at_once(tmp_path: Path) -> None:
    def answer(peer: socket.socket) -> None:
        peer.recv(1000)
        line = b'{"id": 7, "ok": true, "result": "late"}\n{"id": 1, "ok": true, "result": "\xc3\xa9"}\n{"id":'
        for byte in line:
            peer.sendall(bytes([byte]))
        peer.recv(1000)
        peer.sendall(b' 2, "ok": true, "result": 2}\n')

    with scripted(tmp_path, answer), Client(tmp_path) as client:
        assert client.execute("first", {}, timeout=30) == "é"
        assert client.execute("second", {}, timeout=30) == 2


def test_a_timeout_in_the_middle_of_a_line_loses_nothing(tmp_path: Path) -> None:
    subscribed, half, waited = threading.Event(), threading.Event(), threading.Event()

    def answer(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(b'{"id": 1, "ok": true, "result": {}}\n')
        subscribed.wait(30)
        peer.sendall(b'{"id": 1, "event": {"name": "a:b", ')
        half.set()
        waited.wait(30)
        peer.sendall(b'"payload": 5, "lost": 0}}\n')

    with scripted(tmp_path, answer), Client(tmp_path) as client:
        client.subscribe("a:*")
        subscribed.set()
        half.wait(30)
        with pytest.raises(TimeoutError):
            next(client.events(timeout=0.01))
        waited.set()
        assert next(client.events(timeout=30))["payload"] == 5


def test_the_time_is_for_all_events_together(tmp_path: Path) -> None:
    done = threading.Event()

    def chatter(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(b'{"id": 1, "ok": true, "result": {}}\n')
        # The client may leave between the two.
        with suppress(OSError):
            while not done.wait(0.01):
                peer.sendall(b'{"id": 1, "event": {"name": "a:b", "payload": 1, "lost": 0}}\n')

    with scripted(tmp_path, chatter), Client(tmp_path) as client:
        client.subscribe("a:*")
        try:
            with pytest.raises(TimeoutError):
                # Each of them comes much sooner than the time is up.
                list(client.events(timeout=0.1))
        finally:
            done.set()
