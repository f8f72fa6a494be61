-- Return the state of the log, and one event, at one moment; no metadata if it is not whole.
--
-- The keys of events that were delivered from the log before follow, to a node of another epoch.
--
-- ARGV: the number of an event: its payload shows whether a rollback put another one there; the
-- epoch that the node has read; how many keys it takes

local epoch, delivered = read_epoch(), {}
if epoch and epoch ~= ARGV[2] then
  local trimmed = redis.call('HGET', KEYS[3], 'trimmed')
  delivered = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', trimmed, 'LIMIT', 0, ARGV[3])
end
return {epoch and redis.call('HGETALL', KEYS[3]) or {},
         redis.call('HMGET', KEYS[2], 'last', 'standing', 'teller', 'begun'),
         redis.call('XRANGE', KEYS[4], ARGV[1] .. '-0', ARGV[1] .. '-0'), delivered}
