-- Report to the roll call, and return all reports.
--
-- ARGV: owner, its report, milliseconds until the reports are deleted unless another one comes

redis.call('HSET', KEYS[6], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[6], ARGV[3])
return redis.call('HGETALL', KEYS[6])
