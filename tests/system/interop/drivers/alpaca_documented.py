import asyncio
import json

import websockets


async def stream_updates():
    async for ws in websockets.connect("ws://localhost:8099/trade-updates-paper/stream"):
        try:
            await ws.send(json.dumps({"action": "auth", "key": "any", "secret": "any"}))
            reply = json.loads(await ws.recv())
            assert reply["data"]["status"] == "authorized", reply
            await ws.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
            async for message in ws:
                match json.loads(message):
                    case {"stream": "trade_updates", "data": update}:
                        print(update["event"], update["order"]["id"])
        except websockets.ConnectionClosed as closed:
            print(closed)
            await asyncio.sleep(1)


asyncio.run(stream_updates())
