"""websockets, without an SDK, resuming after the last event that it received."""
# mypy: ignore-errors

from printing import show_data as on_update

# snippet:
import asyncio
import json

import websockets


async def stream_updates():
    url = "ws://localhost:8099/trade-updates-paper"
    last = None
    while True:
        try:
            async with websockets.connect(f"{url}?since_id={last}" if last else url) as ws:
                await ws.send(json.dumps({"action": "auth", "key": "any", "secret": "any"}))
                await ws.recv()
                async for message in ws:
                    update = json.loads(message)["data"]
                    on_update(update)
                    last = update.get("event_id", last)
        except (OSError, websockets.WebSocketException) as error:
            print(error)
            if getattr(error, "rcvd", None) and error.rcvd.code == 4010:
                raise  # the position is no longer stored
        await asyncio.sleep(1)


asyncio.run(stream_updates())
# snippet end
