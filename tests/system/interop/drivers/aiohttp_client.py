"""aiohttp, without an SDK, resuming after the last event that it received."""
# mypy: ignore-errors

from printing import show_data as on_update

# snippet:
import asyncio

import aiohttp


async def stream_updates():
    url = "ws://localhost:8099/trade-updates-paper"
    position = {}
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.ws_connect(url, params=position) as ws:
                    await ws.send_json({"action": "auth", "key": "any", "secret": "any"})
                    async for message in ws:
                        match message.json():
                            case {"stream": "trade_updates", "data": update}:
                                on_update(update)
                                if "event_id" in update:
                                    position = {"since_id": update["event_id"]}
                if ws.close_code == 4010:
                    raise SystemExit("the position is no longer stored")
            except aiohttp.ClientError as error:
                print(error)
            await asyncio.sleep(1)


asyncio.run(stream_updates())
# snippet end
