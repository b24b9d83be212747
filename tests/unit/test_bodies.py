"""The head of a response and its body."""

from __future__ import annotations

import select
import socket

import pytest

from web.http.bodies import HeadWithBody


def readable(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])


def test_a_head_is_sent_with_the_first_piece_of_its_body() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        connection = HeadWithBody(ours)
        connection.sendall(b"head ")
        assert not readable(theirs)
        connection.sendall(b"first ")
        connection.sendall(b"second")
        connection.flush()
        assert [theirs.recv(100), theirs.recv(100)] == [b"head first ", b"second"]
        assert not readable(theirs)


def test_a_head_without_a_body_is_sent_if_its_reader_is_there() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = HeadWithBody(ours)
        connection.sendall(b"head")
        connection.flush()
        connection.flush()
        assert theirs.recv(100) == b"head"
        theirs.close()
        gone = HeadWithBody(ours)
        gone.sendall(b"head")
        gone.flush()


def test_a_reader_that_reads_nothing_has_left() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.05)
        connection = HeadWithBody(ours)
        connection.sendall(b"head")
        with pytest.raises(BrokenPipeError):
            connection.sendall(bytes(2**24))
