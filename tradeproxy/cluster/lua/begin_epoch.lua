-- Begin another epoch: the log is emptied, and its numbers continue.
--
-- The time, as `sub`, makes the entry's id higher than any before it: a node that has read later
-- entries of this number still reads it.
--
-- ARGV: owner, token, the last number, now, EpochStart, how many arguments of metadata, these; then
-- the keys of events that were delivered from the log before

-- standing stays, for READ_STATE; only its entry is gone
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5], KEYS[6])
redis.call('HDEL', KEYS[2], 'said')
redis.call('HSET', KEYS[2], 'last', ARGV[3], 'sub', ARGV[4], 'begun', ARGV[5])
local metadata = tonumber(ARGV[6])
save_metadata(7, metadata)
for i = 7 + metadata, #ARGV do redis.call('ZADD', KEYS[5], ARGV[3], ARGV[i]) end
redis.call('XADD', KEYS[4], ARGV[3] .. '-' .. ARGV[4], 'b', ARGV[5])
return ARGV[3]
