import asyncio
import json

from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol


class Updates(WebSocketClientProtocol):
    position = ""

    def onOpen(self):
        self.sendMessage(b'{"action":"auth","key":"any","secret":"any"}')

    def onMessage(self, payload, isBinary):
        match json.loads(payload):
            case {"stream": "trade_updates", "data": update}:
                print(update["event"], update["order"]["id"])
                Updates.position = f"?since_id={update['event_id']}"


async def stream_updates():
    while True:
        factory = WebSocketClientFactory(
            f"ws://localhost:8099/trade-updates-paper{Updates.position}"
        )
        factory.protocol = Updates
        try:
            loop = asyncio.get_running_loop()
            _, updates = await loop.create_connection(factory, "localhost", 8099)
            await updates.is_closed
        except OSError as error:
            print(error)
        await asyncio.sleep(1)


asyncio.run(stream_updates())
