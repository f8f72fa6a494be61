-- Return the state of the log, and one event, at one moment; no metadata if it is not whole.
--
-- ARGV: the number of an event: its payload shows whether a rollback put another one there

return {read_epoch() and redis.call('HGETALL', KEYS[3]) or {},
         redis.call('HMGET', KEYS[2], 'last', 'standing', 'teller', 'begun'),
         redis.call('XRANGE', KEYS[4], ARGV[1] .. '-0', ARGV[1] .. '-0')}
