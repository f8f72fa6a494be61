-- Acquire the lease if it is free, or renew it, or only read it.
--
-- A node that does not lead acquires it only if the log of its epoch is still there, or its last
-- report to the roll call. Otherwise all data was lost, or another log has begun. A node that has
-- led since this one asked last may still be connected to Alpaca.
--
-- The token must never have been used before; a new lease gets it, a renewed one keeps its own.
--
-- ARGV: owner, token, milliseconds, 1 to acquire or renew it; an epoch, and the highest time of the
-- events that its log has lost; the node's last report, or nothing if it leads; then the keys of
-- metadata to return
--
-- The result also has what shows whether the imports and the assignments by hand have changed.

local function digest(text) return text and redis.sha1hex(text) or '' end

local owner = redis.call('HGET', KEYS[1], 'owner')
local epoch = read_epoch()
local may_acquire = ARGV[7] == '' or epoch == ARGV[5]
    or redis.call('HGET', KEYS[6], ARGV[1]) == ARGV[7]
if not owner and ARGV[4] == '1' and may_acquire then
  -- holder outlives the lease: a new leader keeps its outbox only if no other node led since
  local previous = redis.call('HGET', KEYS[2], 'holder') or ''
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'token', ARGV[2], 'previous', previous)
  redis.call('HSET', KEYS[2], 'holder', ARGV[1])
  redis.call('HDEL', KEYS[2], 'released')
  owner = ARGV[1]
end
local remaining = redis.call('PTTL', KEYS[1])
-- Redis stores a time of its clock. After that was set back, or a failover to a clock that is
-- behind, a lease whose owner is dead would last for hours.
local is_too_long = owner and (remaining < 0 or remaining > tonumber(ARGV[3]))
if (owner == ARGV[1] and ARGV[4] == '1') or is_too_long then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local lease = redis.call('HMGET', KEYS[1], 'owner', 'token', 'previous')
local last = redis.call('HGET', KEYS[2], 'last')
local lost = tonumber(ARGV[6])
if epoch and epoch == ARGV[5] and lost
    and lost > tonumber(redis.call('HGET', KEYS[3], 'rolled back') or '-1') then
  redis.call('HSET', KEYS[3], 'rolled back', ARGV[6])
end
local released = redis.call('HGET', KEYS[2], 'released')
remaining = tostring(redis.call('PTTL', KEYS[1]))
local imports = count_imports()
local newest = imports > 0 and digest(shorten(redis.call('LINDEX', KEYS[7], -1))) or ''
local assigned = digest(redis.call('HGET', KEYS[3], 'remembered strategy assignments'))
return {lease[1], lease[2], lease[3], epoch, last, remaining, released, imports, newest, assigned,
         unpack(redis.call('HMGET', KEYS[3], unpack(ARGV, 8)))}
