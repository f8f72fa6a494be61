import asyncio
import json

from tornado.httpclient import HTTPError
from tornado.websocket import WebSocketError, websocket_connect


async def stream_updates():
    position = ""
    while True:
        try:
            ws = await websocket_connect(f"ws://localhost:8099/trade-updates-paper{position}")
            await ws.write_message('{"action":"auth","key":"any","secret":"any"}')
            while message := await ws.read_message():
                match json.loads(message):
                    case {"stream": "trade_updates", "data": update}:
                        print(update["event"], update["order"]["id"])
                        position = f"?since_id={update['event_id']}"
        except (OSError, HTTPError, WebSocketError) as error:
            print(error)
        await asyncio.sleep(1)


asyncio.run(stream_updates())
