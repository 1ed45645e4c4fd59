"""When a call goes: a lane for each token, and the driver that runs the lanes on the event loop."""

from app.dispatch.driver import Dispatcher, Send, Sender, Settled
from app.dispatch.lane import Lane, LanePolicy, LaneState

__all__ = ["Dispatcher", "Lane", "LanePolicy", "LaneState", "Send", "Sender", "Settled"]
