-- Acquire the lease if it is free, or renew it, or only read it.
--
-- The token must never have been used before; a new lease gets it, a renewed one keeps its own.
--
-- ARGV: owner, token, milliseconds, 1 to acquire or renew it; an epoch, and the highest time of the
-- events that its log has lost; then the keys of metadata to return
--
-- The result also has what shows whether the imports and the assignments by hand have changed.

local function digest(text) return text and redis.sha1hex(text) or '' end

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
local imports = count_imports()
local newest = imports > 0 and digest(shorten(redis.call('LINDEX', KEYS[7], -1))) or ''
local assigned = digest(redis.call('HGET', KEYS[3], 'remembered strategy assignments'))
return {lease[1], lease[2], lease[3], epoch, last, remaining, released, imports, newest, assigned,
         unpack(redis.call('HMGET', KEYS[3], unpack(ARGV, 7)))}
