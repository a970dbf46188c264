"""h2, set up as we want it."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame

from mailward.rpc.limits import KIB, Limits

_WINDOW = 1 << 20  #: bytes a peer may send ahead on a stream, and twice that on a connection
_LARGEST_ID = (1 << 31) - 1
_FRAME = 16_384 + 9  #: the largest frame we allow (RFC 9113 4.2), head included


class ServerH2(H2Connection):
    """h2 takes a GOAWAY for the end of everything; it only says that the peer opens no more streams (RFC 9113 6.8)."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]

    @property
    def overlong(self) -> bool:
        """Whether a frame is coming that is too long: h2 looks at its length when all of it, up to 16 MiB, is there."""
        return len(self.incoming_buffer._data) > _FRAME


class Turn:
    """How many bytes one connection handles before it is the others' turn: those of a few milliseconds.

    A number alone would not do: 16 KiB are one frame of a body, or six hundred requests that are given up at once.
    """

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 2 * KIB

    def took(self, seconds: float) -> None:
        """Make the next turn shorter or longer after one that took so long."""
        if seconds > 0.010:
            self.bytes = max(self.bytes // 2, KIB // 2)
        elif seconds < 0.001:
            self.bytes = min(self.bytes * 2, 16 * KIB)


def server_h2(limits: Limits) -> ServerH2:
    """Return the server's side of a new connection, with our SETTINGS ready to be sent."""
    h2 = ServerH2(
        H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    h2.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams,
            SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.head_bytes,
        },
    )
    h2.decoder.max_header_list_size = limits.head_bytes
    h2.initiate_connection()
    h2.increment_flow_control_window(2 * _WINDOW - 65_535)
    return h2


def no_more_streams() -> bytes:
    """Return a GOAWAY that asks for no more streams and breaks none that is on its way to us (RFC 9113 6.8)."""
    return GoAwayFrame(0, last_stream_id=_LARGEST_ID).serialize()
