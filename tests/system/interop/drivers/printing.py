"""The output of every Python driver."""
# mypy: ignore-errors

import json
import sys


def show(event, order_id, event_id=None, **more):
    """Print one update that a callback received."""
    event = getattr(event, "value", event)  # some SDKs have an enum
    line = json.dumps({"event": str(event), "order": str(order_id), "id": event_id, **more})
    sys.stdout.write(f"{line}\n")  # one write: there may be other threads
    sys.stdout.flush()


def show_data(data):
    """Print an update that is Alpaca's JSON object."""
    show(data["event"], data["order"]["id"], data.get("event_id"))
