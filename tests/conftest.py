"""Settings of all tests."""

import signal

# A shell that starts a job in the background has it ignore SIGINT, and Python then leaves it so: tests of Ctrl-C, and the
# processes that they start, want the usual state.
signal.signal(signal.SIGINT, signal.default_int_handler)
