import json

import trio
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url


async def stream_updates():
    position = ""
    while True:
        url = f"ws://localhost:8099/trade-updates-paper{position}"
        try:
            async with open_websocket_url(url) as ws:
                await ws.send_message('{"action":"auth","key":"any","secret":"any"}')
                while True:
                    match json.loads(await ws.get_message()):
                        case {"stream": "trade_updates", "data": update}:
                            print(update["event"], update["order"]["id"])
                            position = f"?since_id={update['event_id']}"
        except (OSError, ConnectionClosed, HandshakeError) as error:
            print(error)
        await trio.sleep(1)


trio.run(stream_updates)
