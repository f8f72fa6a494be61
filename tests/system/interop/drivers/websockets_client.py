import asyncio
import json

import websockets


async def stream_updates():
    url = "ws://localhost:8099/trade-updates-paper?proxy_status=1"
    position = ""
    while True:
        try:
            async with websockets.connect(url + position) as ws:
                await ws.send(json.dumps({"action": "auth", "key": "any", "secret": "any"}))
                async for message in ws:
                    match json.loads(message):
                        case {"stream": "trade_updates", "data": update, **more}:
                            print(update["event"], update["order"]["id"])
                            if "cursor" in more:
                                position = f"&since_id={more['cursor']}"
                        case {"data": {"event": "hello", "cursor": str(cursor)}}:
                            position = f"&since_id={cursor}"
                        case {"data": {"state": "impossible", "reason": reason}}:
                            print(f"earlier events are not available: {reason}")
        except (OSError, websockets.WebSocketException) as error:
            print(error)
        await asyncio.sleep(1)


asyncio.run(stream_updates())
