"""Lua scripts over the keys of one account's log; Redis runs each of them atomically.

| key    | type   | contents                                                                  |
|--------|--------|---------------------------------------------------------------------------|
| lease  | hash   | `owner`, `token`: the node that may write; `previous`: the owner before;   |
|        |        | the key is gone when the lease has expired or was released                |
| state  | hash   | `last`, `sub`: the newest entry's id; `holder`: the last owner of the      |
|        |        | lease; `released`: whether it released the lease; `standing`, `teller`,    |
|        |        | `said`: the stream state, its node, its entry's id; `begun`: EpochStart    |
| facts  | hash   | journal.metadata.Metadata; `rolled back`: redis_log.ROLLED_BACK           |
| stream | stream | event n is the entry `n-0`; other entries after it are `n-1`, `n-2`, …     |
| ids    | zset   | every event's key, by the event's number; also keys of delivered events   |
|        |        | of the log before, by its last number                                     |
| roll   | hash   | while there is no log: each node's report, see cluster.roll_call          |

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

KEYS = ("lease", "state", "facts", "stream", "ids", "roll")
"""In the order in which every script gets them as KEYS."""


class Script:
    """One script, and the SHA-1 hash that EVALSHA takes."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()


_FENCE = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1]
    or redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then
  return false
end
"""
"""Reject a write unless this node has the lease with this token."""

_SAVE_METADATA = """
local function save_metadata(from, count)
  for i = from, from + count - 1, 2 do
    if ARGV[i + 1] == '' then
      redis.call('HDEL', KEYS[3], ARGV[i])
    else
      redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    end
  end
end
"""

_READ_EPOCH = """
local function read_newest_id()
  if redis.call('EXISTS', KEYS[4]) == 0 then return false end
  local info = redis.call('XINFO', 'STREAM', KEYS[4])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end
local function read_epoch()
  local epoch, url, begins, trimmed =
    unpack(redis.call('HMGET', KEYS[3], 'epoch', 'base_url', 'begins', 'trimmed'))
  local last, sub = unpack(redis.call('HMGET', KEYS[2], 'last', 'sub'))
  if not (epoch and url and begins and trimmed and last and sub) then return false end
  -- not the newest entry that is left: the former version trimmed every one
  if read_newest_id() ~= last .. '-' .. sub then return false end
  local number = redis.call('ZRANGE', KEYS[5], -1, -1, 'WITHSCORES')[2]
  -- a log without events has no ids
  if last ~= trimmed and tonumber(number) ~= tonumber(last) then return false end
  return epoch
end
"""
"""Return the epoch of the log; false if there is none, or if it is not whole."""

LEASE = Script(f"""
-- owner, token, milliseconds, 1 to acquire or renew it; an epoch, and the highest time of the
-- events that its log has lost; then the keys of metadata to return
{_READ_EPOCH}
local owner = redis.call('HGET', KEYS[1], 'owner')
if not owner and ARGV[4] == '1' then
  -- holder outlives the lease: a new leader keeps its outbox only if no other node led since
  local previous = redis.call('HGET', KEYS[2], 'holder') or ''
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'token', ARGV[2], 'previous', previous)
  redis.call('HSET', KEYS[2], 'holder', ARGV[1])
  redis.call('HDEL', KEYS[2], 'released')
  owner = ARGV[1]
end
if owner == ARGV[1] and ARGV[4] == '1' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local lease = redis.call('HMGET', KEYS[1], 'owner', 'token', 'previous')
local epoch, last = read_epoch(), redis.call('HGET', KEYS[2], 'last')
local lost = tonumber(ARGV[6])
if epoch and epoch == ARGV[5] and lost
    and lost > tonumber(redis.call('HGET', KEYS[3], 'rolled back') or '-1') then
  redis.call('HSET', KEYS[3], 'rolled back', ARGV[6])
end
local released = redis.call('HGET', KEYS[2], 'released')
local remaining = tostring(redis.call('PTTL', KEYS[1]))
return {{lease[1], lease[2], lease[3], epoch, last, remaining, released,
         unpack(redis.call('HMGET', KEYS[3], unpack(ARGV, 7)))}}
""")
"""Acquire the lease if it is free, or renew it, or only read it.

The token must never have been used before; a new lease gets it, a renewed one keeps its own.
"""

RELEASE = Script(f"""
-- owner, token
{_FENCE}
-- DEL first: without free memory Redis rejects a script whose first write needs some
local freed = redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'released', '1')
return freed
""")
"""Release the lease."""

WRITE = Script(f"""
-- owner, token, now, the number read, stream state, how many arguments of metadata, these;
-- then for every event: key, meta, payload, execution
{_FENCE}
{_READ_EPOCH}
{_SAVE_METADATA}
-- before the first change: an error in the middle would leave an id without its event
local epoch = read_epoch()
if not epoch then return false end
local last = tonumber(redis.call('HGET', KEYS[2], 'last'))
-- this node has read more than there is: the log has lost its end
if last < tonumber(ARGV[4]) then return {{string.format('%.0f', last), 0}} end
local metadata, added, dropped = tonumber(ARGV[6]), 0, 0
for i = 7 + metadata, #ARGV, 4 do
  local number = string.format('%.0f', last + 1)
  -- after a lost reply the leader writes the same events again
  if redis.call('ZADD', KEYS[5], 'NX', number, ARGV[i]) == 1 then
    local fields = {{'p', ARGV[i + 2], 'm', ARGV[i + 1], 'r', ARGV[3], 'e', epoch}}
    if ARGV[i + 3] ~= '' then fields[9], fields[10] = 'x', ARGV[i + 3] end
    redis.call('XADD', KEYS[4], number .. '-0', unpack(fields))
    last, added = last + 1, added + 1
  else
    dropped = dropped + 1
  end
end
local number = string.format('%.0f', last)
if added > 0 then redis.call('HSET', KEYS[2], 'last', number, 'sub', '0') end
save_metadata(7, metadata)
if ARGV[5] ~= '' then
  local before = redis.call('HGET', KEYS[2], 'said')
  if before then redis.call('XDEL', KEYS[4], before) end
  local id = number .. '-' .. string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'sub', 1))
  redis.call('XADD', KEYS[4], id, 's', ARGV[5], 'o', ARGV[1])
  redis.call('HSET', KEYS[2], 'standing', ARGV[5], 'said', id, 'teller', ARGV[1])
end
return {{number, dropped}}
""")
"""Append the events that are new, save metadata, publish the stream state.

Only the newest stream state stays in the stream: the entry of the one before is deleted. Nothing is
written to a log that is not whole, or whose last number is below the number read: it lost its end.
"""

BEGIN_EPOCH = Script(f"""
-- owner, token, the last number, now, EpochStart, how many arguments of metadata, these; then the
-- keys of events that were delivered from the log before
{_FENCE}
{_SAVE_METADATA}
-- standing stays, for READ_STATE; only its entry is gone
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5], KEYS[6])
redis.call('HDEL', KEYS[2], 'said')
redis.call('HSET', KEYS[2], 'last', ARGV[3], 'sub', ARGV[4], 'begun', ARGV[5])
local metadata = tonumber(ARGV[6])
save_metadata(7, metadata)
for i = 7 + metadata, #ARGV do redis.call('ZADD', KEYS[5], ARGV[3], ARGV[i]) end
redis.call('XADD', KEYS[4], ARGV[3] .. '-' .. ARGV[4], 'b', ARGV[5])
return ARGV[3]
""")
"""Begin another epoch: the log is emptied, and its numbers continue.

The time, as `sub`, makes the entry's id higher than any before it: a node that has read later
entries of this number still reads it.
"""

TRIM = Script(f"""
-- owner, token, the last number to delete, the first one to keep, metadata
{_FENCE}
{_READ_EPOCH}
{_SAVE_METADATA}
if not read_epoch() then return false end
redis.call('XTRIM', KEYS[4], 'MINID', ARGV[4] .. '-0')
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', ARGV[3])
save_metadata(5, #ARGV - 4)
return ARGV[3]
""")
"""Delete old events with their identities, and save metadata; nothing if the log is not whole."""

READ_STATE = Script(f"""
-- the number of an event: its payload shows whether a rollback put another one there
{_READ_EPOCH}
return {{read_epoch() and redis.call('HGETALL', KEYS[3]) or {{}},
         redis.call('HMGET', KEYS[2], 'last', 'standing', 'teller', 'begun'),
         redis.call('XRANGE', KEYS[4], ARGV[1] .. '-0', ARGV[1] .. '-0')}}
""")
"""Return the state of the log, and one event, at one moment; no metadata if it is not whole."""

CALL_ROLL = Script("""
-- owner, its report, milliseconds until the reports are deleted unless another one comes
redis.call('HSET', KEYS[6], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[6], ARGV[3])
return redis.call('HGETALL', KEYS[6])
""")
"""Report to the roll call, and return all reports."""
