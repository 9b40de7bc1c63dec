"""What can be wrong with JSON that others wrote. Imports msgspec only."""

import msgspec

UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What msgspec raises for it: nested deeper than the stack, or no UTF-8, it meets as Python's own errors."""
