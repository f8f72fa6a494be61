import asyncio

import aiohttp


async def stream_updates():
    url = "ws://localhost:8099/trade-updates-paper"
    params = {"proxy_status": "1"}
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.ws_connect(url, params=params) as ws:
                    await ws.send_json({"action": "auth", "key": "any", "secret": "any"})
                    async for message in ws:
                        match message.json():
                            case {"stream": "trade_updates", "data": update, **more}:
                                print(update["event"], update["order"]["id"])
                                if "cursor" in more:
                                    params["since_id"] = more["cursor"]
                            case {"data": {"event": "hello", "cursor": str(cursor)}}:
                                params["since_id"] = cursor
                            case {"data": {"state": "impossible", "reason": reason}}:
                                print(f"earlier events are not available: {reason}")
            except aiohttp.ClientError as error:
                print(error)
            await asyncio.sleep(1)


asyncio.run(stream_updates())
