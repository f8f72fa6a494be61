-- Begin another epoch: the log is emptied, and its numbers continue. Return 1.
--
-- Return 0, without a change, if the log was lost and is there again, with another epoch than this.
--
-- The time, as `sub`, makes the entry's id higher than any before it: a node that has read later
-- entries of this number still reads it.
--
-- ARGV: owner, token, the last number, now, EpochStart, 1 if the log was lost; how many arguments
-- of metadata, these; then the keys of events that were delivered from the log before

-- after a lost reply it is begun again
local is_begun = redis.call('HGET', KEYS[2], 'begun') == ARGV[5]
local is_lost = ARGV[6] == '1'
if is_lost and read_epoch() and not is_begun then return 0 end
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5], KEYS[6])
redis.call('HDEL', KEYS[2], 'said')
-- the stream state of a lost log knows no gap that begins with this one; another one follows
if is_lost then redis.call('HDEL', KEYS[2], 'standing', 'teller') end
redis.call('HSET', KEYS[2], 'last', ARGV[3], 'sub', ARGV[4], 'begun', ARGV[5])
local metadata = tonumber(ARGV[7])
save_metadata(8, metadata)
for i = 8 + metadata, #ARGV do redis.call('ZADD', KEYS[5], ARGV[3], ARGV[i]) end
redis.call('XADD', KEYS[4], ARGV[3] .. '-' .. ARGV[4], 'b', ARGV[5])
return 1
