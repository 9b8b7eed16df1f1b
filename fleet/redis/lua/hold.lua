-- KEYS: the lease. ARGV: the token, what channels begin with, the key, how long in milliseconds,
-- the facts ('' leaves them).
local token, facts = unpack(redis.call('HMGET', KEYS[1], 'token', 'facts'))
if token ~= ARGV[1] then
	return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if ARGV[5] ~= '' and ARGV[5] ~= facts then
	redis.call('HSET', KEYS[1], 'facts', ARGV[5])
	wake(ARGV[2], ARGV[3], ARGV[5])
end
return 1
