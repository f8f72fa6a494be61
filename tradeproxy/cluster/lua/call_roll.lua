-- Report to the roll call, and return the reports that were there before.
--
-- That of this node is missing if a log has begun since it came, or all data was lost.
--
-- ARGV: owner, its report, milliseconds until the reports are deleted unless another one comes

local reports = redis.call('HGETALL', KEYS[6])
redis.call('HSET', KEYS[6], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[6], ARGV[3])
return reports
