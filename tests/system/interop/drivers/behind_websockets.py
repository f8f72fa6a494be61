import asyncio
import json

import websockets

HOST = "https://localhost"


async def stream_updates():
    position = ""
    while True:
        url = f"wss://localhost/trade-updates-paper{position}"
        try:
            async with websockets.connect(url, origin=HOST) as ws:  # as a page of this host
                await ws.send('{"action":"auth","key":"any","secret":"any"}')
                async for message in ws:
                    match json.loads(message):
                        case {"stream": "trade_updates", "data": update}:
                            print(update["event"], update["order"]["id"])
                            position = f"?since_id={update['event_id']}"
        except (OSError, websockets.WebSocketException) as error:
            print(error)
        await asyncio.sleep(1)


asyncio.run(stream_updates())
