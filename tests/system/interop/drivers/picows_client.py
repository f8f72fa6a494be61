import asyncio
import json

from picows import WSError, WSListener, WSMsgType, ws_connect

URL = "ws://localhost:8099/trade-updates-paper?proxy_status=1"


class Updates(WSListener):
    url = URL

    def on_ws_connected(self, transport):
        transport.send(WSMsgType.TEXT, b'{"action":"auth","key":"any","secret":"any"}')

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.TEXT:
            match json.loads(frame.get_payload_as_utf8_text()):
                case {"stream": "trade_updates", "data": update, **more}:
                    print(update["event"], update["order"]["id"])
                    if "cursor" in more:
                        Updates.url = f"{URL}&since_id={more['cursor']}"
                case {"data": {"event": "hello", "cursor": str(cursor)}}:
                    Updates.url = f"{URL}&since_id={cursor}"
                case {"data": {"state": "impossible", "reason": reason}}:
                    print(f"earlier events are not available: {reason}")
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()


async def stream_updates():
    while True:
        try:
            transport, _ = await ws_connect(Updates, Updates.url)
            await transport.wait_disconnected()
        except (OSError, WSError) as error:
            print(error)
        await asyncio.sleep(1)


asyncio.run(stream_updates())
