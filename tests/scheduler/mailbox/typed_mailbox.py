"""What a type checker has to know about mailboxes. Checked by mypy; never imported."""

from typing import assert_type

from rtos.scheduler import DropReason, MailboxReceiveChannel, MailboxSendChannel, open_mailbox


async def parametrised() -> None:
    send, receive = open_mailbox[int](10)
    assert_type(send, MailboxSendChannel[int])
    assert_type(receive, MailboxReceiveChannel[int])
    await send.send(1)
    await send.send("text")  # type: ignore[arg-type]  # this must be an error
    assert_type(await receive.receive(), int)
    assert_type(receive.receive_nowait(), int)
    async with receive.handling() as value:
        assert_type(value, int)
    async for value in receive:
        assert_type(value, int)
    assert_type(receive.clone(), MailboxReceiveChannel[int])


def optional() -> None:
    send, _ = open_mailbox[int | None](10)
    send.send_nowait(None)


def inferred() -> None:
    def on_drop(value: str, reason: DropReason) -> None:
        raise AssertionError(value, reason)

    send, receive = open_mailbox(10, on_drop=on_drop)
    assert_type(send, MailboxSendChannel[str])
    assert_type(receive, MailboxReceiveChannel[str])
