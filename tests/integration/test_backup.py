"""The documented way to copy and restore the journal, with a real proxy."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.docs.test_operations import TEXT
from tests.support.sockets import SocketTestCase


class BackupTests(SocketTestCase):
    """The documented way to copy and restore the journal."""

    async def test_copy_of_open_journal_can_be_restored(self) -> None:
        """The copy does not disturb the proxy. After the restore, a backfill finds newer events."""
        [command] = re.findall(r"\"(VACUUM INTO .*)\"$", TEXT, re.MULTILINE)
        alpaca = await self.simulate()
        proxy = await self.proxy()
        await alpaca.when_listening()
        client = await self.subscribe()
        data = [
            {"event_id": f"01KYA98DWAS5PA5B000000000{n}", "event": "new", "order": {"id": f"{n}"}}
            for n in range(3)
        ]
        first = alpaca.emit(data[0])
        await client.has(1)
        journal = Path(self.directory, ".local/state/tradeproxy/paper.sqlite3")
        copy = Path(self.directory, "copy.sqlite3")
        with closing(sqlite3.connect(journal)) as reader:
            reader.execute(re.sub("'.*'", f"'{copy}'", command))
        second = alpaca.emit(data[1])
        await client.has(2)
        self.assertEqual(client.taken(), [first, second])
        await proxy.stop()
        self.assertNotIn("without being on the disk", proxy.output)

        for left_over in ("-wal", "-shm"):
            journal.with_name(f"{journal.name}{left_over}").unlink(missing_ok=True)
        copy.replace(journal)
        proxy = await self.proxy()
        await proxy.says("recovery ended: recovered")
        back = await self.subscribe(f"/trade-updates-paper?since_id={data[0]['event_id']}")
        await back.has(1)
        third = alpaca.emit(data[2])
        await back.has(2)
        self.assertEqual(back.taken(), [second, third])
