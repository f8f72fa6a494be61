"""What Redis does in one piece: Lua scripts over the keys of one account's log.

| key    | what it holds                                                                       |
|--------|-------------------------------------------------------------------------------------|
| lease  | `owner` and `token` of the node that may write, and `previous`, who had it before;  |
|        | gone when it has run out, or was given back                                         |
| state  | `last` and `sub`: the newest entry's id; `holder`: who had the lease last, and      |
|        | whether it was `released`; `standing`, `teller`, `said`: what was last said of the  |
|        | stream, by whom, in which entry; `begun`: how the epoch began                       |
| facts  | hub.facts.Facts                                                                     |
| stream | event n is the entry `n-0`; what is said between events is `n-1`, `n-2`, …          |
| ids    | every event's identity, by the event's number                                       |

Numbers are written with %.0f: as Lua writes them by itself, they would be rounded from 10^14 on.
"""

from __future__ import annotations

from hashlib import sha1

KEYS = ("lease", "state", "facts", "stream", "ids")
"""The order in which every script gets them."""


class Script:
    """One script, and the hash by which Redis knows it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()


_FENCE = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then
  return false
end
"""

_SAVE_FACTS = """
local function save_facts(from, count)
  for i = from, from + count - 1, 2 do
    if ARGV[i + 1] == '' then
      redis.call('HDEL', KEYS[3], ARGV[i])
    else
      redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    end
  end
end
"""

LEASE = Script("""
-- owner, token, milliseconds, whether it is wanted
local owner = redis.call('HGET', KEYS[1], 'owner')
if not owner and ARGV[4] == '1' then
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
local epoch, last = redis.call('HGET', KEYS[3], 'epoch'), redis.call('HGET', KEYS[2], 'last')
local released = redis.call('HGET', KEYS[2], 'released')
return {lease[1], lease[2], lease[3], epoch, last, tostring(redis.call('PTTL', KEYS[1])), released}
""")
"""Take the lease if it is free, or renew it, or just look. The token, never used before, is for a new one."""

RELEASE = Script(f"""
-- owner, token
{_FENCE}
local freed = redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'released', '1')
return freed
""")

WRITE = Script(f"""
-- owner, token, now, the number that has been read, standing, how many words of facts, these;
-- then of every event: identity, meta, payload
{_FENCE}
{_SAVE_FACTS}
local last = tonumber(redis.call('HGET', KEYS[2], 'last') or '0')
if last < tonumber(ARGV[4]) then return {{string.format('%.0f', last), 0}} end
local epoch = redis.call('HGET', KEYS[3], 'epoch')
local facts, added, dropped = tonumber(ARGV[6]), 0, 0
for i = 7 + facts, #ARGV, 3 do
  local number = string.format('%.0f', last + 1)
  if redis.call('ZADD', KEYS[5], 'NX', number, ARGV[i]) == 1 then
    redis.call('XADD', KEYS[4], number .. '-0',
               'p', ARGV[i + 2], 'm', ARGV[i + 1], 'r', ARGV[3], 'e', epoch)
    last, added = last + 1, added + 1
  else
    dropped = dropped + 1
  end
end
local number = string.format('%.0f', last)
if added > 0 then redis.call('HSET', KEYS[2], 'last', number, 'sub', '0') end
save_facts(7, facts)
if ARGV[5] ~= '' then
  local before = redis.call('HGET', KEYS[2], 'said')
  if before then redis.call('XDEL', KEYS[4], before) end
  local id = number .. '-' .. string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'sub', 1))
  redis.call('XADD', KEYS[4], id, 's', ARGV[5], 'o', ARGV[1])
  redis.call('HSET', KEYS[2], 'standing', ARGV[5], 'said', id, 'teller', ARGV[1])
end
return {{number, dropped}}
""")
"""Add the events that are new, save the facts, and say how the stream is; only the newest word is kept."""

BEGIN_EPOCH = Script(f"""
-- owner, token, the number to go on from, now, how it began, the words of facts
{_FENCE}
{_SAVE_FACTS}
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
redis.call('HDEL', KEYS[2], 'said')
redis.call('HSET', KEYS[2], 'last', ARGV[3], 'sub', ARGV[4], 'begun', ARGV[5])
save_facts(6, #ARGV - 5)
redis.call('XADD', KEYS[4], ARGV[3] .. '-' .. ARGV[4], 'b', ARGV[5])
return ARGV[3]
""")
"""Begin another epoch: the log is empty, and its numbers go on. The time makes the entry's id a new one, for
those who have read on behind that number."""

TRIM = Script(f"""
-- owner, token, the number up to which events go, the first one that stays, the words of facts
{_FENCE}
{_SAVE_FACTS}
redis.call('XTRIM', KEYS[4], 'MINID', ARGV[4] .. '-0')
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', ARGV[3])
save_facts(5, #ARGV - 4)
return ARGV[3]
""")

READ_STATE = Script("""
-- a number
return {redis.call('HGETALL', KEYS[3]), redis.call('HMGET', KEYS[2], 'last', 'standing', 'teller', 'begun'),
        redis.call('XRANGE', KEYS[4], ARGV[1] .. '-0', ARGV[1] .. '-0')}
""")
"""Tell what the log is, and what its event of a number is, at one moment."""
