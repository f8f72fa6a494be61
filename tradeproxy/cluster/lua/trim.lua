-- Delete old events with their identities, and save metadata; nothing if the log is not whole.
--
-- ARGV: owner, token, the last number to delete, the first one to keep, metadata

if not read_epoch() then return false end
redis.call('XTRIM', KEYS[4], 'MINID', ARGV[4] .. '-0')
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', ARGV[3])
save_metadata(5, #ARGV - 4)
return ARGV[3]
