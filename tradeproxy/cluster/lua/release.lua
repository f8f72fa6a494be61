-- Release the lease.
--
-- ARGV: owner, token

-- DEL first: without free memory Redis rejects a script whose first write needs some
local freed = redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'released', ARGV[1] .. ' ' .. ARGV[2])
return freed
