"""The Lua scripts of lua/, over the keys of one account's log; Redis runs each of them atomically.

| key     | type   | contents                                                                  |
|---------|--------|---------------------------------------------------------------------------|
| lease   | hash   | `owner`, `token`: the node that may write; `previous`: the owner before;   |
|         |        | the key is gone when the lease has expired or was released                |
| state   | hash   | `last`, `sub`: the newest entry's id; `holder`: the last owner of the      |
|         |        | lease; `released`: LeaseState.grant, if it was released; `standing`,       |
|         |        | `teller`, `said`: the stream state, its node, its entry's id; `begun`:     |
|         |        | EpochStart                                                                |
| facts   | hash   | journal.metadata.Metadata; `rolled back`: redis_log.ROLLED_BACK           |
| stream  | stream | event n is the entry `n-0`; other entries after it are `n-1`, `n-2`, …     |
| ids     | zset   | every event's key, by the event's number; also keys of delivered events   |
|         |        | of the log before, by its last number                                     |
| roll    | hash   | while there is no log: each node's report, see cluster.roll_call          |
| imports | list   | the header and the pages of cluster.import_log; they outlast the log        |

An event's entry has the fields `p` (payload), `m` (its other values, JSON), `r` (received,
microseconds) and `e` (epoch). That of an execution has `x` too, its hash. Other entries have `s`
(stream state) and `o` (its node), or `b` (EpochStart).

Stored names are older than the code's: nodes of different versions share a log, so they stay.

| stored                | in the code            |
|-----------------------|------------------------|
| key `facts`           | metadata               |
| `standing`            | stream_state           |
| `teller`              | status_owner           |
| `said`                | id of a StatusEntry    |
| `begun`, entry `b`    | epoch_start            |
| JSON `facts` in `b`   | EpochStart.metadata    |

A log is whole if its metadata is there, and if the newest id of `stream` and the newest number of
`ids` are those of `state`. Otherwise a key was deleted or restored alone. What is left can neither
be read nor continued correctly, so it counts as no log.

Numbers are formatted with %.0f, since Lua's own conversion rounds from 10^14 on.
"""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path

KEYS = ("lease", "state", "facts", "stream", "ids", "roll", "imports")
"""In the order in which every script gets them as KEYS."""


class Script:
    """A script of lua/ behind the parts that it uses, and the SHA-1 hash that EVALSHA takes."""

    def __init__(self, name: str, *parts: str) -> None:
        directory = Path(__file__).with_name("lua")
        self.source = "\n".join((directory / f"{each}.lua").read_text() for each in (*parts, name))
        self.sha = sha1(self.source.encode(), usedforsecurity=False).hexdigest()


LEASE = Script("lease", "read_epoch", "imports")
RELEASE = Script("release", "fence")
WRITE = Script("write", "fence", "read_epoch", "save_metadata")
BEGIN_EPOCH = Script("begin_epoch", "fence", "read_epoch", "save_metadata")
TRIM = Script("trim", "fence", "read_epoch", "save_metadata")
READ_STATE = Script("read_state", "read_epoch")
CALL_ROLL = Script("call_roll")
APPEND_IMPORTS = Script("append_imports", "fence", "imports")
READ_IMPORTS = Script("read_imports", "imports")
