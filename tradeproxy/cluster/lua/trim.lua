-- Delete old events with their identities, and save metadata; nothing if the log is another one.
--
-- ARGV: owner, token, epoch, the last number to delete, the first one to keep, metadata

if read_epoch() ~= ARGV[3] then return false end
redis.call('XTRIM', KEYS[4], 'MINID', ARGV[5] .. '-0')
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', ARGV[4])
save_metadata(6, #ARGV - 5)
return ARGV[4]
